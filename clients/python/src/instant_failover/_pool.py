"""The pools of asyncmy and aiomysql, which connect by a function of their module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._trust import OPTION

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def follow_in(pool: ModuleType, connect: Callable[..., Any], driver: str) -> None:
    """Have the module `pool` of a driver connect by `connect` for pools that have our option.

    All other pools of the program connect as before. The pools have no other place for this.
    """
    original = getattr(pool, "connect", None)
    if original is None:
        message = f"instant_failover cannot follow redirects with {driver}: its pools connect in another way"
        raise ImportError(message)

    def dispatch(*args: Any, **options: Any) -> Any:
        return (connect if OPTION in options else original)(*args, **options)

    pool.connect = dispatch  # type: ignore[attr-defined]
