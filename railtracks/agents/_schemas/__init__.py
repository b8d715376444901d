"""JSON Schemas of functions and of answers, and the conversion of what a model sends to the types behind them.

Called where tools and agents are made, and for each tool call and each structured answer.

Words: a *kind* is an annotation; a *schema* is what a model is told of it; a *misfit* is a value that does not fit.
"""

from __future__ import annotations

from railtracks.agents._schemas.answers import AnswerSchema, answer_schema
from railtracks.agents._schemas.conversion import MisfitError
from railtracks.agents._schemas.manifests import ToolManifest
from railtracks.agents._schemas.parameters import Parameters, parameters_of

__all__ = ["AnswerSchema", "MisfitError", "Parameters", "ToolManifest", "answer_schema", "parameters_of"]
