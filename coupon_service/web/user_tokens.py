"""Users are recognised by a token that another system has signed, if COUPON_USER_KEY is set."""

import hmac
import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import lru_cache
from time import time
from typing import Any

from coupon_service.config import Config
from coupon_service.errors import ConfigError, InvalidToken, TokenExpired, TokenMissing
from coupon_service.keys import NEW_USER_ID

#: Seconds by which the clock of the issuer may differ from ours.
LEEWAY = 10
#: Verified tokens of one process that are not verified again. One has at most 8 KiB, as a header.
REMEMBERED = 4096
#: Heads of tokens that one process remembers; an issuer has one for each of its keys.
HEADS = 16
#: Bytes of an HS256 secret at the least, as RFC 7518 asks for, and bits of an RSA key.
MIN_SECRET, MIN_RSA = 32, 2048

_USER_ID = re.compile(NEW_USER_ID)


class UserTokens:
    """Verifies tokens (RFC 7519) with one key, which also decides the only algorithm."""

    def __init__(self, config: Config) -> None:
        """Raises ConfigError if PyJWT is missing or the key cannot be used."""
        try:
            import jwt
        except ModuleNotFoundError:
            raise ConfigError(
                "COUPON_USER_KEY needs PyJWT: pip install 'pyjwt[crypto]'"
            ) from None
        self._jwt = jwt
        self._key, self._algorithm = _read_key(config.user_key)
        self._audience = config.user_audience or None
        self._issuer = config.user_issuer or None
        self._secret = self._key.encode() if self._algorithm == "HS256" else b""
        #: Heads of tokens that PyJWT has found valid, so which say HS256 and nothing unusual.
        self._heads = set[str]()
        # What is refused is not remembered, because lru_cache keeps no exceptions.
        self._remembered = lru_cache(REMEMBERED)(self._verify)

    def user(self, authorization: str) -> str:
        """Return the userId of the token in an Authorization header; "" stands for no header.

        Raises:
            TokenMissing: there is no Bearer token.
            TokenExpired: its exp is over.
            InvalidToken: anything else is wrong with it.
        """
        scheme, _, rest = authorization.partition(" ")
        token = rest.strip(" ")
        if scheme.lower() != "bearer" or not token:
            raise TokenMissing("a Bearer token that says who is asking is missing")
        user_id, expires_at = self._remembered(token)
        if time() >= expires_at + LEEWAY:
            raise TokenExpired("the token has expired")
        return user_id

    def _verify(self, token: str) -> tuple[str, float]:
        """Return sub and exp (s since 1970) of a token that is valid now."""
        claims = self._ordinary(token) or self._any(token)
        if not isinstance(claims["exp"], (int, float)):
            raise InvalidToken("the exp of the token is no number")  # PyJWT takes a text of digits
        if not _USER_ID.fullmatch(claims["sub"]):
            raise InvalidToken("the sub of the token is no valid userId")
        return claims["sub"], claims["exp"]

    def _ordinary(self, token: str) -> dict[str, Any] | None:
        """Return the claims of a valid HS256 token of the ordinary form. None: PyJWT is to say,
        which takes several times as long as the rest of a request."""
        signed, _, signature = token.rpartition(".")
        head, _, payload = signed.partition(".")
        if head not in self._heads:
            return None
        digest = hmac.digest(self._secret, signed.encode(), "sha256")
        if not hmac.compare_digest(_base64(digest), signature.encode()):
            return None
        try:
            decoded = urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
            claims: dict[str, Any] = json.loads(decoded)
        except (RecursionError, ValueError):
            return None
        is_ordinary = (
            type(claims) is dict
            and _base64(decoded) == payload.encode()
            and type(claims.get("sub")) is str
            and type(claims.get("exp")) is int
            and type(claims.get("iat", 0)) is int and claims.get("iat", 0) <= time()
            and claims.get("aud") == self._audience
            and self._issuer in (None, claims.get("iss"))
            and type(claims.get("jti", "")) is str
            and "nbf" not in claims
        )
        return claims if is_ordinary else None

    def _any(self, token: str) -> dict[str, Any]:
        """Return the claims of a token that PyJWT finds valid."""
        try:
            claims: dict[str, Any] = self._jwt.decode(
                token, self._key, algorithms=[self._algorithm], audience=self._audience,
                issuer=self._issuer, leeway=LEEWAY, options={"require": ["exp", "sub"]},
            )
        except self._jwt.ExpiredSignatureError:
            raise TokenExpired("the token has expired") from None
        # PyJWT lets some of what rubbish brings about through: deep nesting, an infinite exp.
        except (self._jwt.PyJWTError, ArithmeticError, RecursionError, ValueError) as error:
            raise InvalidToken(f"the token is not valid: {type(error).__name__}") from None
        if self._secret and len(self._heads) < HEADS:
            self._heads.add(token.partition(".")[0])
        return claims


def _base64(data: bytes) -> bytes:
    return urlsafe_b64encode(data).rstrip(b"=")


def user_tokens(config: Config) -> UserTokens | None:
    """Return what verifies tokens; None if everybody may ask for anybody.

    Raises:
        ConfigError: the key is missing or cannot be used.
    """
    if config.user_key:
        return UserTokens(config)
    if config.user_audience or config.user_issuer:
        raise ConfigError("COUPON_USER_AUDIENCE and COUPON_USER_ISSUER need a COUPON_USER_KEY")
    return None


def _read_key(text: str) -> tuple[Any, str]:
    """Return the key and the algorithm that it is for."""
    if "-----BEGIN" not in text:
        if len(text.encode()) < MIN_SECRET:
            raise ConfigError(f"COUPON_USER_KEY: an HS256 secret has {MIN_SECRET} bytes or more")
        return text, "HS256"
    try:
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ModuleNotFoundError:
        raise ConfigError(
            "COUPON_USER_KEY needs cryptography for a PEM: pip install 'pyjwt[crypto]'"
        ) from None
    try:
        key = load_pem_public_key(text.replace("\\n", "\n").encode())
    except Exception:  # of many classes, and with the text of the key in some
        raise ConfigError("COUPON_USER_KEY is no PEM of a public key") from None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA:
        return key, "RS256"
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key, "ES256"
    raise ConfigError(
        f"COUPON_USER_KEY: the public key is neither RSA of {MIN_RSA} bits or more nor EC P-256"
    )
