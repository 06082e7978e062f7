"""``webhook plugins run``: call one handler once, without brokers and without a database."""

import asyncio
import logging
import tempfile
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from handlers.contract import Context, PluginManifest
from handlers.outbound import GuardedClient
from handlers.redaction import Redactor
from handlers.registry import PluginMissing, load_plugins
from handlers.results import Completed, Rejected, Wait
from handlers.tenants.configuration import ConfigurationError, TenantConfiguration, read_configuration
from handlers.tenants.secrets import secret_values
from schemas.errors import PipelineError
from schemas.identifiers import new_event_id
from streams.cli.console import Json, examples, note, say, show_json
from streams.errors import SetupError
from streams.settings import Settings

HELP: Final = (
    "Call one handler once, without Kafka or a database. It calls the upstream that the configuration names, so it may "
    "place an order there: point auth.url at a stand-in (`webhook fakes dwd`) to try things out."
    + examples(
        "webhook plugins run OrderWebhookHandler --config tenant.json --payload order.json",
        "webhook plugins run OrderTransformHandler --config tenant.json --payload order.json --step 1 "
        "--previous validation.json",
    )
    + "\n\nExit codes: 0 completed, 1 rejected or failed, 2 wrong use."
)


def run_handler(
    handler: Annotated[str, typer.Argument(help="The handler's name as the plugin's manifest lists it.")],
    config: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="A tenant's configuration.")],
    payload: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="The payload: a JSON object.")],
    step: Annotated[int | None, typer.Option(min=0, help="Call it as this step of a pipeline, from 0.")] = None,
    previous: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="JSON result of the step before.")
    ] = None,
    event_type: Annotated[str, typer.Option(help="Name of what happened.")] = "manual_trigger",
    as_json: Json = False,
) -> None:
    """See ``HELP``."""
    try:
        configuration = read_configuration(config.read_text(), str(config))
        plugin = load_plugins().require(configuration)
    except ConfigurationError as error:
        raise SetupError(str(error), "Correct these places.") from None
    except PluginMissing as error:
        raise SetupError(f"{error}.", "See `webhook plugins check`.") from None
    results = [] if previous is None else [_object(previous)]
    redactor = Redactor(secret_values(configuration.document, plugin.config_schema))
    called = _call(plugin, handler, configuration, _object(payload), (step, results, event_type))
    try:
        verdict: object = asyncio.run(called)
    except PipelineError as error:
        verdict = error
    shown = _shown(redactor.verdict(verdict))
    if as_json:
        show_json(shown)
    else:
        for name, value in shown.items():
            say(f"{name:8} {value if isinstance(value, str) else orjson.dumps(value).decode()}")
    if not isinstance(verdict, Completed | Wait):
        raise typer.Exit(1)


async def _call(
    plugin: PluginManifest,
    name: str,
    configuration: TenantConfiguration,
    payload: dict[str, Any],
    circumstances: tuple[int | None, list[dict[str, Any]], str],
) -> object:
    """What the handler returns. ``circumstances``: step, earlier results, event type. Raises what it raises."""
    step, results, event_type = circumstances
    handler: Any = plugin.handler(name)
    method = "handle" if step is None else "handle_step"
    if handler is None or not hasattr(handler, method):
        known = ", ".join(sorted(each for each in plugin.handlers if hasattr(plugin.handler(each), method)))
        raise SetupError(f"Plugin {plugin.id} has no handler {name} with `{method}`.", f"It has: {known or 'none'}.")
    event_id = new_event_id()
    files_dir = Path(tempfile.mkdtemp(prefix="webhook-run-"))
    async with GuardedClient(Settings().outbound_allow) as http:
        context = Context(
            tenant_id="0",
            event_id=event_id,
            event_type=event_type,
            endpoint="webhook/run",
            run=1,
            step=step or 0,
            attempt=1,
            idempotency_key=event_id,
            config=configuration.document,
            http=http,
            log=logging.LoggerAdapter(logging.getLogger(f"handlers.{name}"), {}),
            results=results,
            files_dir=files_dir,
        )
        if step is None:
            verdict = await handler.handle(payload, context)
        else:
            added = {"previous_step_result": context.previous_step_result, "pipeline_results": results}
            verdict = await handler.handle_step({**payload, **added, "current_step": step}, step, context)
    if any(files_dir.iterdir()):
        note(f"Files are in {files_dir}.")
    else:
        files_dir.rmdir()
    return verdict


def _shown(verdict: object) -> dict[str, Any]:
    match verdict:
        case Completed(result):
            return {"outcome": "completed", "result": result}
        case Wait(key, timeout_s):
            return {"outcome": "waiting", "call_back": key, "timeout_s": timeout_s}
        case Rejected(reason, code):
            return {"outcome": "rejected", "code": code, "reason": reason}
        case PipelineError():
            return {"outcome": type(verdict).__name__.lower(), "code": verdict.code, "reason": str(verdict)}
    return {
        "outcome": "wrong_result",
        "reason": f"it returned {type(verdict).__name__}, not Completed, Rejected or Wait",
    }


def _object(path: Path) -> dict[str, Any]:
    try:
        found = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise SetupError(f"{path} is no JSON: {error}.", "Give a file with a JSON object.") from None
    if not isinstance(found, dict):
        raise SetupError(f"{path} holds {type(found).__name__}.", "Give a file with a JSON object.")
    return found
