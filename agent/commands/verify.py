"""`glossator verify`: are the facts as they were written?"""

import typer

from agent.commands import options as o


def verify(workspace: o.Workspace = None, json: o.Json = False) -> None:
    """Check the store and the harvests: every hash, every reference."""
    from agent.screen.tables import print_problems
    from agent.session import open_session
    from agent.settings import load
    from store.verify import verify as check

    with open_session(load(locals())) as session:
        session.need_workspace()
        problems = check(session.ledger) + [p for harvest in session.harvests() for p in harvest.verify()]
    print_problems(problems, json)
    if problems:
        raise typer.Exit(1)
