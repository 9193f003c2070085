import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.processes.metrics_page import merge

FIRST = b"""# TYPE :tensorflow:serving:request_count counter
:tensorflow:serving:request_count{model_name="a",status="OK"} 3
# HELP serving_model_state State of a version
# TYPE serving_model_state gauge
serving_model_state{model="a",version="1"} 30.0
# TYPE t histogram
t_bucket{le="1.0"} 1
t_bucket{le="+Inf"} 2
t_sum 2.5
t_count 2
# TYPE process_start_time_seconds gauge
process_start_time_seconds 100.5
"""
SECOND = b"""# TYPE :tensorflow:serving:request_count counter
:tensorflow:serving:request_count{model_name="a",status="OK"} 4
:tensorflow:serving:request_count{model_name="b c",status="NOT_FOUND"} 1
# HELP serving_model_state State of a version
# TYPE serving_model_state gauge
serving_model_state{model="a",version="1"} 20.0
# TYPE t histogram
t_bucket{le="1.0"} 0
t_bucket{le="+Inf"} 1
t_sum 4.0
t_count 1
# TYPE process_start_time_seconds gauge
process_start_time_seconds 99.5
"""


def samples(page: bytes) -> dict[str, float]:
    lines = [line for line in page.decode().splitlines() if line and not line.startswith("#")]
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}


def test_amounts_are_added_and_states_are_not() -> None:
    found = samples(merge([FIRST, SECOND]))
    assert found == {
        ':tensorflow:serving:request_count{model_name="a",status="OK"}': 7,
        ':tensorflow:serving:request_count{model_name="b c",status="NOT_FOUND"}': 1,
        'serving_model_state{model="a",version="1"}': 30,
        't_bucket{le="1.0"}': 1,
        't_bucket{le="+Inf"}': 3,
        "t_sum": 6.5,
        "t_count": 3,
        "process_start_time_seconds": 99.5,
    }


@pytest.mark.parametrize("pages", [[FIRST], [FIRST, SECOND], [SECOND, FIRST]])
def test_each_metric_stays_in_one_piece(pages: list[bytes]) -> None:
    names = [family.name for family in text_string_to_metric_families(merge(pages).decode())]
    assert len(names) == len(set(names)) == 4


def test_one_page_stays_as_it_is() -> None:
    assert samples(merge([FIRST])) == samples(FIRST)
