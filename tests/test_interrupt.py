import os
import signal
import threading

import pytest

from lle_jax import interrupt


def test_a_signal_is_raised_with_its_status():
    for number, status in ((signal.SIGTERM, 75), (signal.SIGINT, 130)):
        with pytest.raises(interrupt.Interrupted) as stop, interrupt.raised():
            os.kill(os.getpid(), number)
        assert stop.value.status == status
        assert str(stop.value) == number.name


def test_a_deferred_signal_waits_and_a_second_interrupt_does_not():
    end = pytest.raises(interrupt.Interrupted, match="SIGINT")
    with end, interrupt.deferred() as pending:
        pending.check()
        os.kill(os.getpid(), signal.SIGTERM)
        assert pending.number == signal.SIGTERM
        with pytest.raises(interrupt.Interrupted, match="SIGTERM"):
            pending.check()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(interrupt.Interrupted, match="SIGINT"):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_after_the_last_check_is_raised_at_the_end():
    with pytest.raises(interrupt.Interrupted, match="SIGTERM"), interrupt.deferred():
        os.kill(os.getpid(), signal.SIGTERM)


def test_handlers_are_put_back_and_other_threads_have_none():
    before = signal.getsignal(signal.SIGTERM)

    def elsewhere():
        with interrupt.deferred() as pending:
            pending.check()

    thread = threading.Thread(target=elsewhere)
    with interrupt.deferred():
        thread.start()
        thread.join()
    assert signal.getsignal(signal.SIGTERM) is before
