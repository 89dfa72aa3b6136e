"""Days of an autoscaled pool beside fixed fleets and an oracle: `python -m tests.bench.autoscaling` prints them."""

from collections.abc import Callable, Iterator, Sequence

from app.catalog.pools import PRIORITY_START_SECONDS, START_SECONDS
from tests.autoscaling.demand import Demand, make_day
from tests.autoscaling.keda import SCALED_OBJECT, Autoscaler
from tests.autoscaling.oracle import least_gpu_seconds, oracle_gpu_seconds
from tests.autoscaling.pool import Outcome, Pool
from tests.autoscaling.wanted import Horizons, Running, Waiting, workers_wanted
from tests.load.figures import percentile

HORIZONS = Horizons(PRIORITY_START_SECONDS, START_SECONDS)
TIERS = {0: "priority", 1: "standard", 2: "flex"}
# Mean seconds of a unit, and orders of the day outside bursts.
KINDS = ((30, 9000), (90, 4000), (90, 1200), (400, 1000))


def measure(demand: Demand, *, ends_idle_first: bool = False, rule: Callable[..., int] = workers_wanted) -> Outcome:
    """Run a day with the rule of the service and the ScaledObject of the chart."""
    scaler = Autoscaler.of(SCALED_OBJECT)
    pool = Pool(demand, autoscaler=scaler, horizons=HORIZONS, ends_idle_first=ends_idle_first, rule=rule)
    return pool.run()


def patience_of(outcome: Outcome) -> Horizons:
    """Return how long an oracle may let work wait: standard as 95 % of a day's did, priority a minute at most."""
    return Horizons(HORIZONS.priority, percentile(outcome.waits[1], 0.95))


def late_whatever_the_fleet(demand: Demand) -> set[int]:
    """Return the priority orders that start too late with workers without end: they wait for their own account's units.

    An account renders no more segments at once than its membership allows, so these say nothing of an autoscaler.
    """
    return Pool(demand, fixed=1000).run().late


def one_for_each_unit(
    waiting: Sequence[Waiting],
    running: Sequence[Running],
    concurrency: dict[str, int],
    horizons: Horizons,
    worst_class: int,
) -> int:
    """The rule before revision 0052: a worker for each unit that may run."""
    units = [Waiting(each.account, each.priority, each.units, None) for each in waiting]
    takes = [Running(each.account, None) for each in running]
    return workers_wanted(units, takes, concurrency, horizons, worst_class)


def smallest_fleet(demand: Demand, standard_p95: float, unavoidable: set[int]) -> tuple[int, Outcome]:
    """Return the smallest fixed fleet, in steps of 5, that keeps the promise and lets standard wait no longer."""
    low, high, best = 1, 40, None
    while low <= high:
        middle = (low + high) // 2
        outcome = Pool(demand, fixed=5 * middle).run()
        if outcome.kept(unavoidable) >= 0.99 and percentile(outcome.waits[1], 0.95) <= standard_p95:
            high, best = middle - 1, (5 * middle, outcome)
        else:
            low = middle + 1
    if best is None:
        raise ValueError("no fleet is large enough")
    return best


def lines(seed: int) -> Iterator[str]:
    """Yield the table of a seed's days."""
    for unit_seconds, orders in KINDS:
        demand = make_day(seed=seed, orders=orders, unit_seconds=unit_seconds)
        ours = measure(demand)
        oracle, least = oracle_gpu_seconds(demand, patience_of(ours)), least_gpu_seconds(demand)
        impatient = oracle_gpu_seconds(demand)
        late = late_whatever_the_fleet(demand)
        units = sum(len(order.units) for order in demand.orders)
        hours = demand.work / 3600
        yield f"{len(demand.orders)} orders, {units} units of {unit_seconds} s, {hours:.0f} GPU-hours of work"
        yield f"{len(late)} priority films start late whatever the fleet: they wait for units of their own account"
        yield (
            f"{'':<24}{'GPU-hours':>10}{'of oracle':>10}{'of work':>9}{'busy':>6}{'most':>6}{'starts':>8}"
            f"{'back':>6}{'in time':>9}   waits p50/p95 in seconds"
        )
        known = {"oracle": oracle, "oracle, nobody waits": impatient, "the least possible": least}
        for name, cost in known.items():
            yield f"{name:<24}{cost / 3600:>10.1f}{cost / oracle:>10.2f}{cost / demand.work:>9.2f}"
        yield _line("autoscaled", ours, demand, oracle, late)
        yield _line("with deletion cost", measure(demand, ends_idle_first=True), demand, oracle, late)
        yield _line("a worker for each unit", measure(demand, rule=one_for_each_unit), demand, oracle, late)
        workers, fixed = smallest_fleet(demand, percentile(ours.waits[1], 0.95), late)
        yield _line(f"fixed fleet of {workers}", fixed, demand, oracle, late)
        yield ""


def _line(name: str, outcome: Outcome, demand: Demand, oracle: float, late: set[int]) -> str:
    cost, work = outcome.gpu_seconds, demand.work
    waits = ", ".join(
        f"{TIERS[tier]} {percentile(outcome.waits[tier], 0.5):.0f}/{percentile(outcome.waits[tier], 0.95):.0f}"
        for tier in TIERS
    )
    return (
        f"{name:<24}{cost / 3600:>10.1f}{cost / oracle:>10.2f}{cost / work:>9.2f}{outcome.busy_seconds / cost:>6.0%}"
        f"{outcome.most:>6}{outcome.started:>8}{outcome.handed_back:>6}{outcome.kept(late):>9.2%}   {waits}"
    )
