"""Which servers may redirect a client."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass

from ._target import shown

ENVIRONMENT = "INSTANT_FAILOVER_FOLLOW"
OPTION = ENVIRONMENT.lower()

_NUMBERS = {"0": "never", "1": "auto"}
_RULES = ("never", "verified", "auto", "always")


@dataclass(frozen=True)
class Peer:
    """What a client knows about the server that redirects it."""

    #: The connection uses TLS.
    tls: bool
    #: The program asks for TLS, and not only if the server happens to offer it.
    tls_asked: bool
    #: The program asks for certificates to be verified.
    verification_asked: bool
    #: The certificate has been verified, by an authority and the name.
    verified: bool

    @classmethod
    def of(cls, context: ssl.SSLContext | None, *, tls: bool, tls_asked: bool) -> Peer:
        """Return what a connection knows that uses `context` for TLS."""
        asked = context is not None and context.verify_mode != ssl.CERT_NONE
        names = context is not None and context.check_hostname
        return cls(tls=tls, tls_asked=tls_asked, verification_asked=asked, verified=tls and asked and names)


class Rule:
    """The option `instant_failover_follow`, or else the environment variable; `auto` if neither is given."""

    def __init__(self, option: object = None) -> None:
        """Read the rule; an unknown value counts as `never`."""
        self._name, value = (OPTION, option) if option not in (None, "") else (ENVIRONMENT, os.environ.get(ENVIRONMENT))
        text = "auto" if value in (None, "") else str(int(value) if isinstance(value, bool) else value)
        rule = _NUMBERS.get(text, text.lower())
        self._problem = None
        if rule not in _RULES:
            self._problem = f"{self._name} is {shown(text)}; give never, verified, auto or always"
        self._rule = rule

    @property
    def is_never(self) -> bool:
        """Whether the program turned following off: it then gets the server's error as it is."""
        return self._rule == "never"

    def objection(self, peer: Peer, cure: str) -> str | None:
        """Say why a redirect from this server is not followed, and what to do; None if it is followed."""
        if self._problem:
            return self._problem
        if peer.tls_asked and not peer.tls:
            return "the program asks for TLS, but the server redirected it without TLS; enable TLS on the server"
        if self._rule == "always" or peer.verified or (self._rule == "auto" and not peer.verification_asked):
            return None
        reason = "the server's certificate is not verified" if peer.tls else "the connection has no TLS"
        return f"{reason} ({self._name}={self._rule}); {cure}, or {self._name}=always"
