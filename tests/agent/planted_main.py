"""`python -m tests.agent.planted_main ARGUMENTS`: the command line on the planted world, a process of its own.

Like the command line it loads torch no sooner than it must. Its menu has the tools of tests/agent/planted_tools.py too.
"""

import sys
from functools import cache, cached_property
from importlib import import_module
from typing import Any

from agent.cli import main
from agent.session import Session
from tools.workbench import registry


def subject(session: Session) -> Any:
    return import_module("tests.tools.world").PlantedSubject()


@cache
def every_family() -> None:
    families()
    import_module("tests.agent.planted_tools")


if __name__ == "__main__":
    families, registry._import_families = registry._import_families, every_family
    planted = cached_property(subject)
    planted.__set_name__(Session, "subject")
    Session.subject = planted  # type: ignore[assignment, method-assign]  # the planted world instead of a model
    sys.exit(main(sys.argv[1:]))
