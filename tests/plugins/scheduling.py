"""Which tests stay together when xdist spreads them?  Those that share a stack, whose start costs ten seconds of a core.

xdist's own groups (`--dist loadgroup`) do nothing under pytest 9.2: the name they append to a test's id is not read.
"""

import re
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

STACKS = (
    (re.compile(r"tests/flow/test_(faults\.py|(batches|files)\.py::.*_dies)"), "faulty"),
    (re.compile(r"tests/flow/test_(batches|files)\.py::(?!.*\[production)"), "embedded"),
    (re.compile(r"tests/flow/test_(clients|readme|examples|asking|languages)\.py"), "engine"),
    (re.compile(r"tests/flow/test_(images|samples)\.py::(?!.*\[(embedded|production))"), "seeing"),
    (re.compile(r"tests/flow/test_(accounts|errors)\.py::(?!.*\[(embedded|production))"), "priced"),
    (re.compile(r"tests/flow/test_continuation\.py"), "frail"),
    (re.compile(r"tests/infra/engine/test_awq\.py"), "awq"),
    (re.compile(r"tests/benchmarks/test_programs\.py"), "benchmarks"),
    (re.compile(r"tests/flow/.*\[embedded"), "embedded"),
    (re.compile(r"tests/flow/(.*\[production|test_parts\.py)"), "production"),
    (re.compile(r"tests/api/.*\[(sqlite|postgres)"), "api"),
)


class ByStack(LoadScopeScheduling):
    """The largest groups first; tests that share nothing go one by one to whoever is free."""

    def _split_scope(self, nodeid: str) -> str:
        return next((name for pattern, name in STACKS if pattern.match(nodeid)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    return ByStack(config, log) if config.getvalue("dist") == "load" else None
