"""`status`, `metadata` and `health`: questions about the server and any of its models."""

import argparse
import dataclasses
from typing import Any

from clients import report
from clients.commands.options import (
    OK,
    SERVICE_ERROR,
    add_command,
    add_connection,
    add_version,
    client_config,
    version,
)
from clients.commands.output import print_json, print_lines
from clients.predict import PredictClient


def add_commands(commands: Any) -> None:
    """Describes the commands and their options."""
    status = add_command(commands, "status", "list the versions of a model and their states")
    status.add_argument("model", metavar="MODEL", help="name of the served model")
    status.add_argument("--version", type=version, metavar="N", help="only this version")
    add_connection(status)
    status.set_defaults(run=run_status)

    metadata = add_command(commands, "metadata", "list the signatures of a model")
    metadata.add_argument("model", metavar="MODEL", help="name of the served model")
    add_version(metadata)
    add_connection(metadata)
    metadata.set_defaults(run=run_metadata)

    health = add_command(commands, "health", "ask whether the server is serving")
    health.add_argument(
        "service", nargs="?", default="", metavar="SERVICE", help="default: the whole server"
    )
    add_connection(health)
    health.set_defaults(run=run_health)


def run_status(arguments: argparse.Namespace) -> int:
    """Prints the states of a model's versions."""
    with PredictClient(client_config(arguments)) as client:
        versions = client.status(arguments.model, version=arguments.version)
    if arguments.json:
        print_json({"model": arguments.model, **dataclasses.asdict(found)} for found in versions)
    else:
        print_lines(report.status_lines(versions))
    return OK


def run_metadata(arguments: argparse.Namespace) -> int:
    """Prints the signatures of a model."""
    with PredictClient(client_config(arguments)) as client:
        metadata = client.metadata(
            arguments.model, version=arguments.version, label=arguments.label
        )
    if arguments.json:
        print_json([dataclasses.asdict(metadata)])
    else:
        print_lines(report.metadata_lines(metadata))
    return OK


def run_health(arguments: argparse.Namespace) -> int:
    """Prints the health of a service; anything but SERVING is a service error."""
    with PredictClient(client_config(arguments)) as client:
        health = client.health(arguments.service)
    if arguments.json:
        print_json([{"service": arguments.service, "health": health}])
    else:
        print_lines([health])
    return OK if health == "SERVING" else SERVICE_ERROR
