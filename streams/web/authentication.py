"""Who asks: bearer tokens, their scope and their tenant."""

from typing import Final

from aiohttp import web

from handlers.tenants.tokens import Scope, Token, TokenRepository
from streams.web.blocking import BlockingCalls
from streams.web.problems import Problem
from streams.web.rate_limit import Rates

_LONGEST_TOKEN: Final = 200


class Authenticator:
    """Finds the token of a request."""

    def __init__(self, tokens: TokenRepository, calls: BlockingCalls, rates: Rates) -> None:
        self._tokens = tokens
        self._calls = calls
        self.rates = rates

    async def token_of(self, request: web.Request, needed: Scope) -> Token:
        """The request's token.

        Raises ``Problem``: 401 without a good one, 403 where its scope is too small, 429 where it asks too often.
        """
        kind, _, text = request.headers.get("Authorization", "").partition(" ")
        text = text.strip()
        if kind.lower() != "bearer" or not text:
            detail = "send a token: `Authorization: Bearer ...`; `webhook tokens create` makes one"
            raise Problem(401, "no_token", detail)
        token = None if len(text) > _LONGEST_TOKEN else await self._calls.run(lambda: self._tokens.verify(text))
        if token is None:
            raise Problem(401, "bad_token", "the token is unknown, revoked or expired")
        self.rates.take(token.id)
        if not token.scope.allows(needed):
            raise Problem(403, "scope", f"the token's scope is {token.scope}; this needs {needed}")
        return token
