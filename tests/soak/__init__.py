"""Long attacks on what must hold, outside of the suite: `python -m tests.soak.NAME`; docs/reliability.md has their figures."""
