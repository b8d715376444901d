"""Names of secrets: which keys, parameters and fields have values that are not shown.

Called by everything that looks for secrets, in values (`secrets`), in texts (`scrubbing`) and in signatures.
`docs/secrets.md` tells the rule in words: change both.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Final

# A word of a name: `api`, `Key` and `2` in `apiKey2`.
_WORD: Final = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The shell's folders, and no passwords.
_FOLDERS: Final = _words("PWD OLDPWD")

# Secret wherever they stand in a name.
_SECRET: Final = _words(
    "authorization authorizations bearer cookie cookies cred creds csrf cvc cvv jwt jwts mnemonic otp otps passkey"
    " passkeys pw pws totp xsrf"
)
# Secret also as the end of a word: `dbpassword`.
_ENDINGS: Final = (
    "passphrase",
    "passphrases",
    "passcode",
    "passcodes",
    "passwd",
    "passwds",
    "password",
    "passwords",
    "pwd",
    "pwds",
    "secret",
    "secrets",
    "credential",
    "credentials",
    "setcookie",
    "sessioncookie",
    "dsn",
    "connectionstring",
    "connectionstrings",
    "connstr",
    "sessid",
    "sessionid",
)
# `key` and `keys` are secret behind these.
_OF_KEYS: Final = _words(
    "access account admin aes anthropic api app application auth aws azure claude client consumer crypto"
    " cryptographic decryption deploy encryption fernet function functions github google gpg hmac integration jwt"
    " licence license mailgun master openai pgp private role rsa sas secret sendgrid server service session shared"
    " signing ssh ssl stripe subscription tls twilio webhook write"
)
# `token` is secret but behind these: it marks a page, a place in a text, or an amount.
_OF_PLAIN_TOKENS: Final = _words(
    "after audio average avg backward before bos cached cancel cancellation change chunk cls completion continuation"
    " continue current cursor decoded delta design draft each end eos eot fencing final first forward idempotency"
    " image input invalid last mask max maximum middle min minimum n new next num number output pad page pagination"
    " paging per position prefix prev previous prompt reasoning resume scroll sentence sep sequence since single skip"
    " special start starting stop suffix sync text total unk unknown video word"
)
# `tokens` are a count, or the parts of a text, but behind these.
_OF_SECRET_TOKENS: Final = _words("access api auth bearer csrf deploy jwt oauth personal refresh secret")
# Other words that are secret together.
_PAIRS: Final = frozenset(
    tuple(pair.split())
    for pair in (
        "access code",
        "access signature",
        "activation code",
        "amz signature",
        "auth code",
        "backup code",
        "backup codes",
        "basic auth",
        "card pin",
        "client assertion",
        "code verifier",
        "conn str",
        "conn string",
        "connection str",
        "connection string",
        "connection strings",
        "device code",
        "digest auth",
        "goog signature",
        "http auth",
        "mfa code",
        "oauth verifier",
        "pass phrase",
        "pass phrases",
        "pass word",
        "pass words",
        "proxy auth",
        "recovery code",
        "recovery codes",
        "recovery phrase",
        "security code",
        "seed phrase",
        "user pin",
        "verification code",
        "x auth",
    )
)
# `pass` is secret behind these, as the last word of a name.
_OF_PASS: Final = _words(
    "admin api app auth broker database db email ftp http imap ldap login mail mongo mongodb mysql pg postgres"
    " postgresql proxy rabbitmq redis root smtp sql ssh user wifi"
)
# Secret as a name of their own only.
_WHOLE: Final = _words("auth pass pin")
# Behind a secret word these say something about the secret: `token_count`, `password_policy`, `secret_name`.
_ABOUT: Final = _words(
    "address age algorithm algorithms arn at attempt attempts available average avg banner based budget budgets"
    " changed check class classes classification consent cost costs count counter counting counts created date days"
    " decimals description detail details dir directory disabled domain domains duration embedding embeddings enabled"
    " endpoint endpoints error errors exists expiration expired expires expiry field fields file filename filenames"
    " files folder format generated generation hours index indexes indices input issued issuer kind kinds label labels"
    " latency len length lengths level lifetime limit limits location logprob logprobs management max maximum mean"
    " message messages method methods min minimum minutes missing mode model modified name names number offset offsets"
    " overlap path paths per placeholder policies policy position positions preference preferences present price"
    " prices pricing prob probabilities probability probs provider providers quota rate rates ratio remaining required"
    " requirement requirements rotated rotation rules samesite scanning schema scope scopes score scores second"
    " seconds server servers set size sizes source standard start state statistics stats status store strategy"
    " strength sum support supported symbol throughput time timeout timestamp title total totals ttl type types"
    " updated uri uris url urls usage used valid validation validator validity version versions visible window"
)
# The number of a token stands for a word of a text.
_ABOUT_TOKENS: Final = _ABOUT | _words("id ids str text")
# A name that begins with one of these asks a question, and its value is the answer: `has_password`.
_QUESTIONS: Final = _words(
    "accept accepts allow allows disable disables enable enables forgot has have hide is need needs require requires"
    " show"
)
# What the page for users has to name.
WORDS: Final = frozenset(
    {*_SECRET, *_ENDINGS, *_OF_KEYS, *_OF_PLAIN_TOKENS, *_OF_SECRET_TOKENS, *_OF_PASS, *_WHOLE, *_ABOUT_TOKENS}
    | {*_QUESTIONS, *_FOLDERS, *(" ".join(pair) for pair in _PAIRS)}
)


def _one_of(words: frozenset[str]) -> str:
    return f"(?:{'|'.join(sorted(words))})"


# Two words written as one: `apikey`, `authtokens`, `dbpass`.
_JOINED: Final = rf"{_one_of(_OF_KEYS)}keys?\Z|{_one_of(_OF_SECRET_TOKENS)}tokens\Z|{_one_of(_OF_PASS)}pass\Z"
_JOINED_PLAIN_TOKEN: Final = r"(?:bos|continuation|cursor|eos|next|pad|page|resume|skip|sync|unk)token\Z"  # noqa: S105 - a pattern


def _parts(words: frozenset[str]) -> list[str]:
    """Return the words that have no other one of these words in them."""
    parts: list[str] = []
    for word in sorted(words, key=len):
        if not any(map(word.__contains__, parts)):
            parts.append(word)
    return parts


def _roots() -> tuple[str, ...]:
    roots = _parts(frozenset({*_SECRET, *_ENDINGS, *_WHOLE, "key", "token"}))
    pairs = [pair for pair in _PAIRS if not any(root in word for word in pair for root in roots)]
    return tuple(_parts(frozenset({*roots, *(max(pair, key=len) for pair in pairs), "conn"})))


# Each name of a secret has at least one of these in it, in small letters.
ROOTS: Final = _roots()


@functools.lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Return whether a value under this name is secret, however the words of the name are joined."""
    words = [word.lower() for word in re.findall(_WORD, name)]
    if name in _FOLDERS or not _QUESTIONS.isdisjoint(words[:1]):
        return False
    if len(words) == 1 and words[0] in _WHOLE:
        return True
    return any(_is_secret_at(words, place) for place in range(len(words)))


def _is_secret_at(words: Sequence[str], place: int) -> bool:
    """Return whether the word at a place, with the word before it, is secret, and no word behind it tells about it."""
    word, before, behind = words[place], words[place - 1] if place else "", words[place + 1 :]
    if word.endswith("token"):
        is_found = before not in _OF_PLAIN_TOKENS if word == "token" else not re.search(_JOINED_PLAIN_TOKEN, word)
        return is_found and _ABOUT_TOKENS.isdisjoint(behind)
    is_found = (
        word in _SECRET
        or word.endswith(_ENDINGS)
        or (word in {"key", "keys"} and before in _OF_KEYS)
        or (word == "tokens" and before in _OF_SECRET_TOKENS)
        or (word == "pass" and before in _OF_PASS and not behind)
        or (before, word) in _PAIRS
        or re.search(_JOINED, word) is not None
    )
    return is_found and _ABOUT.isdisjoint(behind)
