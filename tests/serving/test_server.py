import asyncio
import datetime
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from protocol import messages, services
from protocol.errors import InvalidRequestError, UnavailableError
from protocol.tensors import to_ndarray
from serving.server import channel_arguments

X = np.ones((1, 3), np.float32)


@pytest.fixture(params=["grpcio", "nghttp2"])
def grpc_face(request) -> str:
    return request.param


# The life of versions, seen by a client.


async def test_a_new_version_takes_over_without_a_failed_request(
    model_folders, start_server
) -> None:
    model_folders.half_plus_two(1, offset=1)
    running = await start_server(
        model_name="half", model_base_path=str(model_folders.model("half"))
    )

    async def versions_until(last: int) -> list[int]:
        seen: list[int] = []
        while not seen or seen[-1] != last:
            response = await running.predict("half", {"x": X})
            version = response.model_spec.version.value
            assert response.outputs["y"].float_val[0] == 0.5 + version
            seen.append(version)
        return seen

    asking = [asyncio.create_task(versions_until(3)) for _ in range(4)]
    await running.predict("half", {"x": X})
    model_folders.half_plus_two(2, offset=2)
    await running.until(lambda: running.state("half", 1) == 50)
    model_folders.half_plus_two(3, offset=3)
    # Each caller asks one request after another, so no caller may see a version go backwards.
    # Between callers there is no order: a request finishes on the version it began with.
    seen_by_each = await asyncio.wait_for(asyncio.gather(*asking), 20)
    for seen in seen_by_each:
        assert seen == sorted(seen)
    assert set().union(*seen_by_each) == {1, 2, 3}


async def test_rolling_back_is_removing_the_folder(model_folders, start_server) -> None:
    model_folders.half_plus_two(1, offset=1)
    newest = model_folders.half_plus_two(2, offset=2)
    running = await start_server(
        model_name="half", model_base_path=str(model_folders.model("half"))
    )
    assert await running.states("half") == {2: 30}
    newest.rename(model_folders.base / "withdrawn")
    await running.until(lambda: running.state("half", 2) == 50)
    assert (await running.predict("half", {"x": X})).model_spec.version.value == 1


async def test_a_broken_version_leaves_the_old_one_and_the_other_models(
    model_folders, start_server
) -> None:
    model_folders.half_plus_two(1)
    model_folders.lookup()
    running = await start_server(
        model_config_file=str(model_folders.config_file("half", "lookup", "missing")),
        max_num_load_retries=1,
        load_retry_interval_micros=1000,
    )
    model_folders.broken(2)
    await running.until(lambda: running.state("half", 2) == 50)
    assert (await running.predict("half", {"x": X})).model_spec.version.value == 1
    model_folders.half_plus_two(3)
    await running.until(lambda: running.state("half", 3) == 30)
    assert (await running.outputs("lookup", {"index": np.array([1])}))["y"].tolist() == [10]


async def test_a_version_whose_warm_up_fails_does_not_serve(
    model_folders, start_server, make_request
) -> None:
    model_folders.sentiment(1)
    running = await start_server(
        model_name="sentiment",
        model_base_path=str(model_folders.model("sentiment")),
        max_num_load_retries=0,
    )
    model_folders.sentiment(2, warmup=[make_request("sentiment", {"text": [1]})])
    await running.until(lambda: running.state("sentiment", 2) == 50)
    assert await running.states("sentiment") == {2: 50, 1: 30}


async def test_the_config_file_is_read_again(model_folders, start_server) -> None:
    model_folders.half_plus_two(1)
    model_folders.lookup()
    running = await start_server(
        model_config_file=str(model_folders.config_file("half")),
        model_config_file_poll_wait_seconds=1,
    )
    model_folders.config_file(text="this is no config")
    model_folders.config_file("half", "lookup")
    await running.until(lambda: running.state("lookup", 1) == 30)
    assert running.state("half", 1) == 30


async def test_labels_may_be_given_from_the_start(model_folders, start_server) -> None:
    model_folders.half_plus_two(1)
    config = model_folders.config_file(
        text=f"""model_config_list {{ config {{
            name: "half" base_path: "{model_folders.model("half")}" model_platform: "tensorflow"
            version_labels {{ key: "stable" value: 1 }}
        }} }}"""
    )
    running = await start_server(model_config_file=str(config))
    response = await running.predict("half", {"x": X}, label="stable")
    assert response.model_spec.version.value == 1


# Batching.


async def test_batching_by_file(model_folders, start_server, tmp_path: Path) -> None:
    model_folders.half_plus_two(1)
    parameters = tmp_path / "batching.config"
    parameters.write_text("max_batch_size { value: 4 } num_batch_threads { value: 1 }")
    running = await start_server(
        model_name="half",
        model_base_path=str(model_folders.model("half")),
        enable_batching=True,
        batching_parameters_file=str(parameters),
    )
    answers = await asyncio.gather(
        *(running.outputs("half", {"x": X * n}) for n in range(40)),
    )
    assert [outputs["z"][0, 0] for outputs in answers] == [-n for n in range(40)]
    with pytest.raises(grpc.aio.AioRpcError, match="Task size 5 is larger than maximum"):
        await running.predict("half", {"x": np.ones((5, 3), np.float32)})


async def test_batching_by_version_folder(model_folders, start_server) -> None:
    staged = model_folders.half_plus_two(1)
    (staged / "batching_params.pbtxt").write_text("max_batch_size { value: 2 }")
    model_folders.half_plus_two(1, name="plain")
    broken = model_folders.half_plus_two(1, name="wrong")
    (broken / "batching_params.pbtxt").write_text("max_batch_size { value: 0 }")
    running = await start_server(
        model_config_file=str(model_folders.config_file("half", "plain", "wrong")),
        enable_batching=True,
        enable_per_model_batching_parameters=True,
    )
    rows = np.ones((3, 3), np.float32)
    with pytest.raises(grpc.aio.AioRpcError, match="larger than maximum input batch size 2"):
        await running.predict("half", {"x": rows})
    await running.predict("plain", {"x": rows})
    [status] = running.server.data_plane.status("wrong")
    assert "max_batch_size must be at least 1" in str(status.error)


async def test_one_bad_request_in_a_batch(model_folders, start_server) -> None:
    model_folders.lookup()
    running = await start_server(
        model_name="lookup",
        model_base_path=str(model_folders.model("lookup")),
        enable_batching=True,
    )
    calls = [running.outputs("lookup", {"index": np.array([n % 5])}) for n in range(100)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    for n, answer in enumerate(answers):
        if n % 5 == 4:
            assert isinstance(answer, grpc.aio.AioRpcError)
            assert answer.code() is grpc.StatusCode.INVALID_ARGUMENT
        else:
            assert answer["y"].tolist() == [n % 5 * 10]  # type: ignore[index]


# Ports and transport.


async def test_a_unix_socket(model_folders, start_server, tmp_path: Path) -> None:
    model_folders.half_plus_two(1)
    path = tmp_path / "grpc.sock"
    running = await start_server(
        model_name="half",
        model_base_path=str(model_folders.model("half")),
        grpc_socket_path=str(path),
        grpc_channel_arguments="grpc.max_connection_age_ms=100000,grpc.lb_policy_name=grpclb",
    )
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        running.channel = channel
        assert await running.states("half") == {1: 30}


async def test_a_taken_port_is_an_error(model_folders, start_server) -> None:
    model_folders.half_plus_two(1)
    place = {"model_name": "half", "model_base_path": str(model_folders.model("half"))}
    running = await start_server(**place)
    with pytest.raises(UnavailableError, match=f"Can not listen on .*{running.port}"):
        await start_server(**place, port=running.port)
    with pytest.raises(UnavailableError, match=f"Can not listen on port {running.rest_port}"):
        await start_server(**place, rest_api_port=running.rest_port)


def test_channel_arguments() -> None:
    assert channel_arguments("") == []
    assert channel_arguments("a=1,b=x=y") == [("a", 1), ("b", "x=y")]
    with pytest.raises(InvalidRequestError, match="'b' is not name=value"):
        channel_arguments("a=1,b")


async def test_nothing_to_serve_is_an_error(start_server) -> None:
    with pytest.raises(InvalidRequestError, match="--model_base_path or --model_config_file"):
        await start_server()


# TLS.


@pytest.fixture(scope="module")
def pem() -> dict[str, bytes]:
    """A private CA, and keys with certificates for `localhost` and for a client."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    def name(text: str) -> Any:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def certificate(subject: str, key: Any, signing_key: Any, is_ca: bool) -> Any:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("ca"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
            .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
            .sign(signing_key, hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )

    def as_pem(key: Any) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    ca, server, client = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    return {
        "ca": certificate("ca", ca, ca, True),
        "server_key": as_pem(server),
        "server": certificate("localhost", server, ca, False),
        "client_key": as_pem(client),
        "client": certificate("client", client, ca, False),
    }


def ssl_config(path: Path, pem: dict[str, bytes], *, client_verify: bool) -> Path:
    message = messages.SSLConfig(
        server_key=pem["server_key"].decode(),
        server_cert=pem["server"].decode(),
        custom_ca=pem["ca"].decode(),
        client_verify=client_verify,
    )
    path.write_text(str(message))
    return path


@pytest.mark.parametrize("client_verify", [False, True])
async def test_tls(
    model_folders, start_server, tmp_path: Path, pem: dict[str, bytes], client_verify: bool
) -> None:
    model_folders.half_plus_two(1)
    running = await start_server(
        model_name="half",
        model_base_path=str(model_folders.model("half")),
        ssl_config_file=str(ssl_config(tmp_path / "ssl", pem, client_verify=client_verify)),
    )
    with pytest.raises(grpc.aio.AioRpcError):
        await running.predict("half", {"x": X})
    anonymous = grpc.ssl_channel_credentials(pem["ca"])
    known = grpc.ssl_channel_credentials(pem["ca"], pem["client_key"], pem["client"])
    address = f"localhost:{running.port}"
    async with grpc.aio.secure_channel(address, known) as channel:
        running.channel = channel
        assert await running.states("half") == {1: 30}
    async with grpc.aio.secure_channel(address, anonymous) as channel:
        running.channel = channel
        if client_verify:
            with pytest.raises(grpc.aio.AioRpcError):
                await running.states("half")
        else:
            assert await running.states("half") == {1: 30}


# The process.


def model_flags(model_folders: Any, name: str) -> tuple[str, str]:
    return f"--model_name={name}", f"--model_base_path={model_folders.model(name)}"


def test_sigterm_lets_requests_finish(model_folders, server_process, make_request) -> None:
    model_folders.slow()
    started = server_process(*model_flags(model_folders, "slow"))
    assert f"Running gRPC ModelServer at 0.0.0.0:{started.port} ..." in "\n".join(started.log)
    rounds = 8000.0
    with grpc.insecure_channel(f"localhost:{started.port}") as channel:
        predict = services.stub(channel, services.PREDICT)
        predict(make_request("slow", {"x": np.array([1], np.float32)}), timeout=30)
        watch = services.stub(channel, services.HEALTH_WATCH)(
            messages.HealthCheckRequest(), timeout=60
        )
        assert next(watch).status == 1
        under_way = predict.future(
            make_request("slow", {"x": np.array([rounds], np.float32)}), timeout=60
        )
        wait_for_metric(started.rest_port, "serving_in_flight_requests 1.0")
        started.terminate()
        assert next(watch).status == 2
        assert to_ndarray(under_way.result().outputs["y"]).tolist() == [rounds]
    assert started.wait() == 0
    assert "Draining" in "\n".join(started.log)


def wait_for_metric(port: int, line: str) -> None:
    url = f"http://localhost:{port}/monitoring/prometheus/metrics"
    for _ in range(2000):
        with urllib.request.urlopen(url, timeout=10) as response:
            if line in response.read().decode():
                return
    raise AssertionError(f"{line} did not come")


def test_a_second_signal_ends_at_once(model_folders, server_process, make_request) -> None:
    model_folders.slow()
    started = server_process(*model_flags(model_folders, "slow"))
    with grpc.insecure_channel(f"localhost:{started.port}") as channel:
        predict = services.stub(channel, services.PREDICT)
        hopeless = predict.future(
            make_request("slow", {"x": np.array([1e9], np.float32)}), timeout=60
        )
        wait_for_metric(started.rest_port, "serving_in_flight_requests 1.0")
        started.terminate()
        assert started.wait_for_log("Draining")
        started.terminate()
        assert started.wait() == 128 + 15
        assert hopeless.code() is grpc.StatusCode.UNAVAILABLE


def test_a_drain_that_takes_too_long_is_cut(model_folders, server_process, make_request) -> None:
    model_folders.slow()
    started = server_process(
        *model_flags(model_folders, "slow"),
        "--drain_timeout_seconds=0.1",
    )
    with grpc.insecure_channel(f"localhost:{started.port}") as channel:
        predict = services.stub(channel, services.PREDICT)
        hopeless = predict.future(
            make_request("slow", {"x": np.array([1e9], np.float32)}), timeout=60
        )
        wait_for_metric(started.rest_port, "serving_in_flight_requests 1.0")
        started.terminate()
        assert started.wait() == 0
        assert hopeless.code() is not grpc.StatusCode.OK


def test_unknown_flags_are_reported_and_do_no_harm(model_folders, server_process) -> None:
    model_folders.half_plus_two(1)
    started = server_process(
        *model_flags(model_folders, "half"),
        "--unheard=1",
        "--mixed_precision=bfloat16",
    )
    started.terminate()
    assert started.wait() == 0
    assert started.process.stdout is not None
    printed = started.process.stdout.read()
    assert "unknown argument: --unheard=1\nusage: python -m serving" in printed
    assert "--mixed_precision has no effect" in "\n".join(started.log)


def run_serving(repository: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "serving", *arguments],
        cwd=repository,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_help_and_version(repository: Path) -> None:
    shown = run_serving(repository, "--help")
    assert shown.returncode == 255
    assert shown.stdout.startswith("usage: python -m serving")
    shown = run_serving(repository, "--version")
    assert shown.returncode == 0
    assert len(shown.stdout.splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "stdout"),
    [
        (["--port=many"], "--port must be a whole number; was 'many'\n\nusage: "),
        (["--port=70000"], "Failed to start server. Error: INVALID_ARGUMENT: --port must be"),
        ([], "Failed to start server. Error: INVALID_ARGUMENT: Give either"),
        (["--model_config_file=/no/such"], "Can not read file '/no/such'"),
    ],
)
def test_a_bad_start_ends_with_255(repository: Path, arguments: list[str], stdout: str) -> None:
    shown = run_serving(repository, *arguments)
    assert shown.returncode == 255
    assert stdout in shown.stdout


def test_a_bad_config_file_is_told_on_stderr(repository: Path, tmp_path: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text("model_config_list { config { name: 'x' ")
    shown = run_serving(repository, f"--model_config_file={config}")
    assert shown.returncode == 255
    assert "Invalid protobuf file" in shown.stderr
