import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from fixtures.workers import FakeWorker

from edgekd.serve.dispatcher import Dispatcher
from edgekd.serve.figures import Figures
from edgekd.serve.messages import Drawing
from edgekd.serve.problems import Problem

Test = Callable[[Dispatcher], Awaitable[None]]


def drawing(model: str = "starter", seed: int = 0) -> Drawing:
    return Drawing(model, "red apple", None, seed, 2, 1.0, None, 64, 64)


async def turns() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def run(
    test: Test, workers: list[FakeWorker], count: int = 1, limit: int = 3, stuck_s: float = 60.0
) -> None:
    made = iter(workers)

    async def start() -> FakeWorker:
        return next(made)

    async def main() -> None:
        for worker in workers:
            worker.__post_init__()  # its queue belongs to this loop
        dispatcher = Dispatcher(start, count, limit, Figures(), stuck_s)
        await dispatcher.open()
        await turns()
        try:
            await asyncio.wait_for(test(dispatcher), 20)
        finally:
            await dispatcher.close()

    asyncio.run(main())


def submit(dispatcher: Dispatcher, *drawings: Drawing) -> list[Any]:
    return dispatcher.submit(drawings or (drawing(),), lambda *_: None)


def test_first_come_first_served_and_full():
    worker = FakeWorker(answers=None)

    async def test(dispatcher: Dispatcher) -> None:
        jobs = [submit(dispatcher, drawing(seed=seed))[0] for seed in range(4)]
        with pytest.raises(Problem, match="full") as caught:
            submit(dispatcher)
        assert caught.value.status == 429
        assert caught.value.retry_after == 3  # three wait, at a second each
        for seed in range(4):
            await turns()
            assert worker.orders[-1].drawing.seed == seed
            worker.reply("picture")
        assert [(await job.done).content for job in jobs] == [b"picture"] * 4
        submit(dispatcher)

    run(test, [worker])


def test_all_pictures_of_a_request_or_none():
    async def test(dispatcher: Dispatcher) -> None:
        submit(dispatcher, drawing(), drawing())
        with pytest.raises(Problem, match="full"):
            submit(dispatcher, drawing(), drawing(), drawing())
        submit(dispatcher, drawing(), drawing())

    run(test, [FakeWorker(answers=None)])


def test_a_worker_that_holds_the_model_is_preferred():
    one, other = FakeWorker(answers=None), FakeWorker(answers=None, loaded=("other",))

    async def test(dispatcher: Dispatcher) -> None:
        submit(dispatcher, drawing("other"))
        await turns()
        assert (len(one.orders), len(other.orders)) == (0, 1)
        submit(dispatcher, drawing("other"))
        await turns()
        assert (len(one.orders), len(other.orders)) == (1, 1)

    run(test, [one, other], count=2)


def test_previews_are_told_with_their_picture():
    worker = FakeWorker(answers=None)
    told = []

    async def test(dispatcher: Dispatcher) -> None:
        jobs = dispatcher.submit(
            (drawing(), drawing()), lambda index, reply: told.append((index, reply.step))
        )
        for step in (1, 2):
            await turns()
            worker.reply("preview", step=step)
            worker.reply("picture")
        await asyncio.gather(*(job.done for job in jobs))

    run(test, [worker])
    assert told == [(0, 1), (1, 2)]


def test_cancelled_pictures_leave_queue_and_worker():
    worker = FakeWorker(answers=None)

    async def test(dispatcher: Dispatcher) -> None:
        running, waiting, last = (submit(dispatcher)[0] for _ in range(3))
        await turns()
        dispatcher.cancel(waiting)
        assert not worker.stopped
        dispatcher.cancel(running)
        assert worker.stopped == [running.number]
        await turns()
        assert [order.number for order in worker.orders] == [running.number, last.number]
        worker.reply("picture")
        await last.done
        dispatcher.cancel(last)  # nothing
        assert worker.stopped == [running.number]

    run(test, [worker])


def test_a_lost_worker_costs_its_picture_and_is_replaced():
    first, second = FakeWorker(answers=None), FakeWorker()

    async def test(dispatcher: Dispatcher) -> None:
        lost, kept = submit(dispatcher)[0], submit(dispatcher)[0]
        await turns()
        first.kill()
        with pytest.raises(Problem) as caught:
            await lost.done
        assert (caught.value.status, caught.value.code) == (503, "worker_lost")
        assert not dispatcher.is_ready
        assert (await kept.done).content == b"picture"
        assert dispatcher.is_ready

    run(test, [first, second])


def test_an_idle_worker_that_ends_is_replaced():
    first, second = FakeWorker(), FakeWorker()

    async def test(dispatcher: Dispatcher) -> None:
        first.kill()
        await turns()
        await submit(dispatcher)[0].done
        assert second.orders
        assert not first.orders

    run(test, [first, second])


def test_a_worker_that_does_not_stop_is_killed():
    first = FakeWorker(answers=None)
    first.stop = lambda number: None  # type: ignore[method-assign]

    async def test(dispatcher: Dispatcher) -> None:
        job = submit(dispatcher)[0]
        await turns()
        dispatcher.cancel(job)
        await submit(dispatcher)[0].done
        assert first.killed

    run(test, [first, FakeWorker()], stuck_s=0.01)


def test_a_worker_that_finishes_is_not_stuck():
    worker = FakeWorker(answers=None)

    async def test(dispatcher: Dispatcher) -> None:
        job = submit(dispatcher)[0]
        await turns()
        worker.reply("picture")
        await job.done
        await asyncio.sleep(0.1)
        assert not worker.killed

    run(test, [worker], stuck_s=0.01)


def test_drain_finishes_and_refuses():
    worker = FakeWorker(answers=None)

    async def test(dispatcher: Dispatcher) -> None:
        jobs = submit(dispatcher, drawing(), drawing())
        await turns()
        draining = asyncio.create_task(dispatcher.drain(60))
        await turns()
        with pytest.raises(Problem) as caught:
            submit(dispatcher)
        assert caught.value.status == 503
        assert not dispatcher.is_ready
        for _ in jobs:
            worker.reply("picture")
            await turns()
        await draining
        assert all(job.done.result().content for job in jobs)

    run(test, [worker])


def test_drain_gives_up_after_its_time():
    async def test(dispatcher: Dispatcher) -> None:
        jobs = submit(dispatcher, drawing(), drawing())
        await turns()
        await dispatcher.drain(0.01)
        codes = [job.done.exception().code for job in jobs]
        assert codes == ["shutting_down"] * 2

    run(test, [FakeWorker(answers=None)])


def test_a_drain_that_is_given_up():
    async def test(dispatcher: Dispatcher) -> None:
        jobs = submit(dispatcher, drawing(), drawing())
        await turns()
        draining = asyncio.create_task(dispatcher.drain(3600))
        await turns()
        assert not draining.done()
        dispatcher.give_up()
        await draining
        assert [job.done.exception().code for job in jobs] == ["shutting_down"] * 2

    run(test, [FakeWorker(answers=None)])


def test_figures():
    figures = Figures()
    workers = itertools.repeat(FakeWorker())

    async def main() -> None:
        worker = next(workers)
        worker.__post_init__()

        async def start() -> FakeWorker:
            return worker

        dispatcher = Dispatcher(start, 1, 8, figures, 60)
        await dispatcher.open()
        await turns()
        await asyncio.gather(*(job.done for job in submit(dispatcher, drawing(), drawing())))
        await dispatcher.close()

    asyncio.run(main())
    text = figures.text().decode()
    assert 'edgekd_pictures_total{model="starter"} 2.0' in text
    assert 'edgekd_wait_seconds_count{model="starter"} 2.0' in text
    assert 'edgekd_service_seconds_count{model="starter"} 2.0' in text
    assert "edgekd_queue_length 0.0" in text
