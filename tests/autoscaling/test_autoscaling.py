"""An autoscaled pool on a simulated day costs little more than the work itself, and priority films start in time."""

import pytest

from tests.autoscaling.days import late_whatever_the_fleet, measure, patience_of
from tests.autoscaling.demand import Demand, Order, make_day
from tests.autoscaling.keda import SCALED_OBJECT, Autoscaler
from tests.autoscaling.oracle import least_gpu_seconds, oracle_gpu_seconds
from tests.autoscaling.pool import COLD_START, PROMISE_SECONDS, Pool

COST_MAX, KEPT_MIN = 1.25, 0.99


@pytest.mark.parametrize(("unit_seconds", "orders"), [(90, 1200), (400, 300)])
def test_a_day_costs_little_and_keeps_its_promise(unit_seconds: float, orders: int) -> None:
    demand = make_day(seed=3, orders=orders, unit_seconds=unit_seconds)
    outcome = measure(demand)
    oracle = oracle_gpu_seconds(demand, patience_of(outcome))
    assert outcome.busy_seconds >= demand.work * 0.999, "everything was rendered"
    assert sum(len(waits) for waits in outcome.waits.values()) == len(demand.orders)
    assert least_gpu_seconds(demand) <= oracle < oracle_gpu_seconds(demand), "who lets nobody wait pays for it"
    assert outcome.gpu_seconds <= COST_MAX * oracle
    assert outcome.kept(late_whatever_the_fleet(demand)) >= KEPT_MIN


def test_one_order_wakes_a_pool_that_sleeps_and_it_sleeps_again() -> None:
    demand = Demand((Order(3600.0, "alice", 0, (60.0,)),), {"alice": 2}, 60.0)
    outcome = measure(demand)
    (wait,) = outcome.waits[0]
    assert COLD_START <= wait <= COLD_START + 15 < PROMISE_SECONDS
    assert outcome.started == outcome.most == 1
    kept = outcome.gpu_seconds - COLD_START - 60
    assert 300 - 15 <= kept <= 300 + 15, "it is kept for the cool-down, and then nothing runs"
    assert oracle_gpu_seconds(demand) == least_gpu_seconds(demand) == COLD_START + 60


def test_the_autoscaler_does_what_kubernetes_does() -> None:
    scaler = Autoscaler.of(SCALED_OBJECT)
    assert scaler.replicas(0.0, 0, 0) == 0
    assert scaler.replicas(15.0, 0, 40) == 1, "KEDA starts the first one"
    assert scaler.replicas(30.0, 1, 40) == 9, "at most 8 more, or twice as many, in a minute"
    assert scaler.replicas(45.0, 9, 40) == 9
    assert scaler.replicas(90.0, 9, 40) == 18
    assert scaler.replicas(150.0, 18, 19) == 18, "within the tolerance of a tenth"
    assert scaler.replicas(165.0, 18, 2) == 18, "the window remembers what was wanted"
    assert scaler.replicas(480.0, 18, 2) == 10, "at most 8, or a quarter, in a minute"
    assert scaler.replicas(495.0, 10, 0) == 10
    assert scaler.replicas(900.0, 1, 0) == 0, "nothing was active for the cool-down"


def test_a_pod_that_ends_in_a_take_hands_it_back() -> None:
    """Two long units and a fleet that shrinks: the newest pod ends, as Kubernetes chooses, and its take goes on."""
    orders = (Order(0.0, "alice", 1, (30.0,)), Order(0.0, "bob", 1, (3000.0,)))
    demand = Demand(orders, {"alice": 1, "bob": 1}, 300.0)
    for ends_idle_first, handed_back in ((False, 1), (True, 0)):
        outcome = measure(demand, ends_idle_first=ends_idle_first)
        assert outcome.handed_back == handed_back
        assert outcome.busy_seconds >= demand.work


def test_a_fixed_fleet_runs_all_day() -> None:
    demand = make_day(seed=3, orders=20, unit_seconds=30)
    outcome = Pool(demand, fixed=4).run()
    assert outcome.gpu_seconds >= 4 * 86_400
    assert outcome.started == 4
