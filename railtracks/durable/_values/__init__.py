"""Users' values and errors as bytes that a database keeps, and back."""
