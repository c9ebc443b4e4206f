"""`glossator harvest`: text run through the model, and what fires kept."""

from agent.commands import options as o
from agent.screen.console import emit


def harvest(
    tokens: o.Tokens = None,
    corpus: o.Corpus = None,
    model: o.Model = None,
    adapter: o.Adapter = None,
    dictionary: o.Dictionary = None,
    hook: o.Hook = None,
    device: o.Device = None,
    dtype: o.Dtype = None,
    workspace: o.Workspace = None,
    json: o.Json = False,
) -> None:
    """Run text through the model and keep what fires; interrupted, the same command goes on from the last shard."""
    from agent.session import open_session
    from agent.settings import load

    settings = load(locals())
    with open_session(settings) as session:
        made = session.make_harvest()
        stats = made.stats()
    found = {
        "folder": str(made.folder),
        "tokens": made.n_tokens,
        "windows": made.n_windows,
        "latents": made.n_latents,
        "dead": int((stats.count == 0).sum()),
        "activations": int(stats.count.sum()),
        "header": made.header,
    }
    emit(found, json, lambda c: c.print(
        f"{found['tokens']:,} tokens in {found['windows']:,} windows; {found['activations']:,} activations of "
        f"{found['latents']:,} latents, {found['dead']:,} of which never fired.\n{found['folder']}", soft_wrap=True,
        markup=False,
    ))  # fmt: skip
