"""A lifecycle node whose services and timers go on while it configures."""

from collections.abc import Callable
from threading import Thread
from typing import Any, TypeVar

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.task import Future

from kd3d_core.errors import first_line

Result = TypeVar("Result")


class LoadingNode(LifecycleNode):
    """A lifecycle node that configures in a thread of its own, because models load for seconds.

    Attributes:
        steady_clock: for timers; a simulated clock that stands still doesn't stop it.
    """

    def __init__(self, node_name: str, **node: Any) -> None:
        """
        Args:
            node_name: its name, unless remapped at start.
            node: further arguments of `rclpy.lifecycle.LifecycleNode`.
        """
        super().__init__(node_name, **node)
        self.steady_clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._loader: Thread | None = None
        # What waits for the model, in a group that holds up nothing else.
        self._waiting = ReentrantCallbackGroup()
        self._change_state = self._service_change_state.callback
        self._service_change_state.callback = self._on_change_state
        self._service_change_state.callback_group = self._waiting
        self._waiting.add_entity(self._service_change_state)

    @property
    def state(self) -> str:
        """Lifecycle state: `unconfigured`, `inactive`, `active`, `finalized` or one between."""
        return str(self._state_machine.current_state[1])

    def start_by_itself(self) -> None:
        """Configure, then activate, as soon as the executor spins."""
        start: Any = self._start  # rclpy awaits it
        self._starter = self.create_timer(0.001, start, self._waiting, clock=self.steady_clock)

    def finish(self) -> None:
        """Shut down from any state; what is being loaded is loaded to the end first."""
        if self._loader is not None:
            self._loader.join()
        if self.state != "finalized":
            self.trigger_shutdown()

    async def _start(self) -> None:
        """Ends early if nobody spins the executor any more."""
        self._starter.cancel()
        if self.state == "unconfigured":
            loaded = await self._in_thread(self.trigger_configure)
            if loaded == TransitionCallbackReturn.SUCCESS and self.state == "inactive":
                self.trigger_activate()

    async def _on_change_state(self, request: Any, response: Any) -> Any:
        """The lifecycle service, as rclpy's; a transition that can't be doesn't end the node."""
        try:
            if self.state != "unconfigured":
                return self._change_state(request, response)
            return await self._in_thread(lambda: self._change_state(request, response))
        except RuntimeError as error:  # as rclpy up to Jazzy has it
            self.get_logger().warning(f"refused in state {self.state}: {first_line(error)}")
            response.success = False
            return response

    async def _in_thread(self, work: Callable[[], Result]) -> Result:
        done: Any = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except Exception as error:
                done.set_exception(error)

        self._loader = Thread(target=run, name="loader", daemon=True)
        self._loader.start()
        result: Result = await done
        return result
