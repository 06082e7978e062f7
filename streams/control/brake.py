"""Holds back a worker's starts: while its tier is paused, and once it has started as many tasks as it may."""


class Brake:
    """Consulted by a tier's processor before each start; set by the worker's control, both on the event loop.

    ``paused``: the tier is paused. ``left``: tasks that may still start; ``None``: as many as come.
    """

    __slots__ = ("left", "paused")

    def __init__(self) -> None:
        self.paused = False
        self.left: int | None = None

    @property
    def is_on(self) -> bool:
        """Whether nothing may start now."""
        return self.paused or self.left == 0

    def take(self) -> None:
        """A record is about to start."""
        if self.left is not None:
            self.left -= 1

    def give_back(self) -> None:
        """It did not start after all."""
        if self.left is not None:
            self.left += 1
