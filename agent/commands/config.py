"""`glossator config`: the settings in force."""

from agent.commands import options as o
from agent.screen.console import emit


def config(
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Every setting, its value and where it came from; keys are masked."""
    from agent.screen.tables import settings_table
    from agent.settings import load, origins

    flags = locals()
    found = origins(load(flags), flags)
    document = {origin.name: {"value": origin.value, "source": origin.source} for origin in found}
    emit(document, json, lambda c: c.print(settings_table(found)))
