"""`sentiment`: classify texts, lines of a file, or lines as they arrive."""

import argparse
import dataclasses
from typing import Any

from clients import report
from clients.commands.options import OK, add_command, add_model, client_config, client_options
from clients.commands.output import print_json, print_lines
from clients.commands.texts import add_texts, text_batches
from clients.sentiment import SentimentClient

_EXAMPLES = """\
  python -m clients sentiment "A joy from start to end."
  python -m clients sentiment --json --file reviews.txt
  tail -f reviews.txt | python -m clients sentiment -
"""


def add_commands(commands: Any) -> None:
    """Describes the command and its options."""
    what = "say whether texts are positive or negative"
    command = add_command(commands, "sentiment", what, _EXAMPLES)
    add_texts(command, "classify")
    add_model(command, SentimentClient.spec, "texts")
    command.set_defaults(run=run_sentiment)


def run_sentiment(arguments: argparse.Namespace) -> int:
    """Classifies the given texts, lines of a file or lines on standard input."""
    batches = text_batches(arguments)
    with SentimentClient(client_config(arguments), **client_options(arguments)) as client:
        for batch in batches:
            results = client.classify(batch)
            if arguments.json:
                print_json(dataclasses.asdict(result) for result in results)
            else:
                print_lines(report.sentiment_lines(results))
    return OK
