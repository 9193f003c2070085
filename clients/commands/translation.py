"""`translation`: translate texts, lines of a file, or lines as they arrive."""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients import report
from clients.commands.images import needs_pillow, save_picture
from clients.commands.options import (
    OK,
    UsageError,
    add_command,
    add_model,
    client_config,
    client_options,
    positive_int,
)
from clients.commands.output import Progress, json_lines, print_lines
from clients.commands.texts import add_texts, line_count, text_batches
from clients.heat_map import draw_attention
from clients.translation import AttentionResult, TranslationClient

_MODELS = {"fr": "translation", "dates": "translation_dates"}
_DECIMALS = 4
_EXAMPLES = """\
  python -m clients translation "Where is the station?"
  python -m clients translation --task dates "3 mai 1979"
  python -m clients translation --file english.txt > french.txt
  python -m clients translation --alternatives 3 "Good morning."
  python -m clients translation --plot map.png "Good morning."
"""


def add_commands(commands: Any) -> None:
    """Describes the command and its options."""
    command = add_command(commands, "translation", "translate texts", _EXAMPLES)
    add_texts(command, "translate")
    command.add_argument(
        "--task",
        dest="model",
        action=_ModelOfTask,
        choices=_MODELS,
        default=argparse.SUPPRESS,
        help="fr: English to French (default); dates: a date in words or numbers to ISO 8601; "
        f"short for --model {' or '.join(_MODELS.values())}",
    )
    command.add_argument(
        "--beam",
        type=positive_int,
        metavar="N",
        help="follow so many translations at a time, 1 is greedy (default: the model's)",
    )
    command.add_argument(
        "--max-length",
        type=positive_int,
        metavar="N",
        help="longest translation in tokens (default: the model's)",
    )
    command.add_argument(
        "--alternatives",
        type=positive_int,
        metavar="N",
        help="show the best N translations with their scores, N up to the beam",
    )
    command.add_argument(
        "--attention", action="store_true", help="show where the model looked for each token"
    )
    command.add_argument(
        "--plot",
        type=_png_file,
        metavar="FILE.png",
        help="like --attention for one text, and draw it into this file (needs Pillow)",
    )
    add_model(command, TranslationClient.spec, "texts")
    command.set_defaults(run=run_translation)


def run_translation(arguments: argparse.Namespace) -> int:
    """Translates the given texts, lines of a file or lines on standard input."""
    attention = arguments.attention or arguments.plot is not None
    if attention and arguments.alternatives:
        raise UsageError("--alternatives: not allowed with --attention or --plot")
    if arguments.plot is not None:
        _check_plot(arguments)
    show = _attention if attention else _translations
    batches = text_batches(arguments)
    with (
        TranslationClient(client_config(arguments), **client_options(arguments)) as client,
        _progress(arguments) as progress,
    ):
        for batch in batches:
            lines = show(client, batch, arguments)
            progress.clear()
            print_lines(lines)
            progress.advance(len(batch))
    return OK


def _translations(
    client: TranslationClient, texts: Sequence[str], arguments: argparse.Namespace
) -> list[str]:
    results = client.translate(
        texts,
        beam_width=arguments.beam,
        max_length=arguments.max_length,
        alternatives=arguments.alternatives,
    )
    if arguments.json:
        return json_lines(dataclasses.asdict(result) for result in results)
    if arguments.alternatives:
        return [line for result in results for line in report.alternative_lines(result)]
    return [report.translation_line(result) for result in results]


def _attention(
    client: TranslationClient, texts: Sequence[str], arguments: argparse.Namespace
) -> list[str]:
    results = client.attention(texts, beam_width=arguments.beam, max_length=arguments.max_length)
    saved = _plot(arguments.plot, results[0]) if arguments.plot else []
    if arguments.json:
        return json_lines({**_document(result), "saved": saved} for result in results)
    lines = [line for result in results for line in report.attention_lines(result)]
    return lines + report.saved_lines(saved)


def _document(result: AttentionResult) -> dict[str, Any]:
    weights = result.attention.astype(float).round(_DECIMALS).tolist()
    return {**dataclasses.asdict(result), "attention": weights}


def _plot(file: Path, result: AttentionResult) -> list[str]:
    save_picture(file, draw_attention(result))
    return [str(file)]


def _check_plot(arguments: argparse.Namespace) -> None:
    needs_pillow()
    if len(arguments.texts) != 1 or arguments.texts == ["-"]:
        raise UsageError("--plot draws one text: expected it on the command line")


def _progress(arguments: argparse.Namespace) -> Progress:
    """Returns the progress through a file, if somebody sees it."""
    if arguments.file is None or not sys.stderr.isatty():
        return Progress(None, "lines")
    return Progress(sys.stderr, "lines", line_count(arguments.file))


def _png_file(text: str) -> Path:
    file = Path(text)
    if file.suffix.lower() != ".png":
        raise argparse.ArgumentTypeError(f"expected a name that ends with .png, got {text}")
    return file


class _ModelOfTask(argparse.Action):
    """Chooses a model by what it is for."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, _MODELS[str(values)])
