"""``webhook fakes``: stand-ins for the upstreams, to try things out without calling anybody."""

from typing import Annotated, Final

import typer

from handlers.dwd.fake import run_fake
from streams.cli.console import note

_EXAMPLES: Final = """

[bold]Examples[/bold]

  webhook fakes dwd --port 8431

  curl -X PUT localhost:8431/_fake/behaviour -d '{"fail_next": 5, "fail_status": 503}'

  curl localhost:8431/_fake/journal
"""

fakes_app = typer.Typer(
    name="fakes",
    help="Serve stand-ins for the upstreams on this machine." + _EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@fakes_app.callback()
def _fakes() -> None:
    """Keeps the vendor a subcommand while there is one vendor."""


@fakes_app.command("dwd", help="Serve a stand-in for the Printdeal API until interrupted." + _EXAMPLES)
def serve_dwd(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8431,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Serve the fake."""
    note(f'Set "auth": {{"url": "http://{host}:{port}/api", ...}} in a tenant, and WEBHOOK_OUTBOUND_ALLOW={host}.')
    run_fake(host, port)
