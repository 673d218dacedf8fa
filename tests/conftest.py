"""Profiles of hypothesis: `pytest --hypothesis-profile=thousands` tries twenty times as many examples."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("thousands", max_examples=2_000)
