"""background_tasks: tasks are held until they end, and waited for with those that they begin."""

import asyncio
import gc
import weakref

from fastsmtp.background_tasks import BackgroundTasks


def test_a_task_that_nothing_else_refers_to_ends():
    async def main():
        ended = []

        async def work():
            # The loop holds neither the task nor what it waits for.
            waiting = asyncio.get_running_loop().create_future()
            weak.append(weakref.ref(waiting))
            try:
                await waiting
            except GeneratorExit:  # nobody held it
                return
            ended.append(True)

        weak = []
        background = BackgroundTasks()
        background.start(work())
        await asyncio.sleep(0)
        assert len(background) == 1
        gc.collect()
        weak.pop()().set_result(None)
        await background.wait()
        assert ended == [True]
        assert len(background) == 0

    asyncio.run(main())


def test_waiting_includes_what_begins_meanwhile_and_what_fails():
    async def main():
        background, ended = BackgroundTasks(), []

        async def second():
            await asyncio.sleep(0)
            ended.append("second")

        async def first():
            background.start(second())
            raise ValueError("the task's own")

        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        background.start(first())
        await background.wait()
        assert ended == ["second"]
        assert not background

    asyncio.run(main())


def test_cancelled_tasks_end():
    async def main():
        background = BackgroundTasks()
        for _ in range(3):
            background.start(asyncio.Event().wait())
        await asyncio.sleep(0)
        background.cancel()
        await asyncio.wait_for(background.wait(), 10)

    asyncio.run(main())
