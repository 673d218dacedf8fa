"""How many examples hypothesis tries."""

from __future__ import annotations

from hypothesis import settings

_USUAL = 100  # hypothesis's own number, in relation to which a profile asks for more


def examples(count: int) -> settings:
    """`count`, or as many times more as the chosen profile asks for (`pytest --hypothesis-profile=thousands`); any time for each."""
    return settings(deadline=None, max_examples=count * settings.default.max_examples // _USUAL)
