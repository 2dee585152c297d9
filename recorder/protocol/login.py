"""The login: what the gateway said of the brokerage session, put together from pieces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Login:
    """One connection's brokerage session, as `sts` tells it, also in pieces (seen), and `/tickle` beside it."""

    def __init__(self) -> None:
        self._said: dict[str, Any] = {}
        self._denied = False

    @property
    def authenticated(self) -> bool | None:
        """Whether there is a brokerage session; None while `sts` has not said, which `/tickle` does not replace."""
        said = self._said.get("authenticated")
        return False if self._denied or said is False else True if said is True else None

    @property
    def competing(self) -> bool:
        """Whether another program of the same user has it."""
        return self._said.get("competing") is True

    def status(self, said: Mapping[str, Any]) -> None:
        """Take in what a `sts` frame says; what it leaves out is as before."""
        self._said.update(said)
        if said.get("authenticated") is not None:
            self._denied = False  # newer than what `/tickle` said

    def tickle(self, *, authenticated: bool | None) -> None:
        """Take in what `/tickle` says; the socket may never hear of a session that is gone."""
        self._denied = authenticated is False
