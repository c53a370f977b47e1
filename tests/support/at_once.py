"""Several parties of one process, each in a thread."""

import threading


def at_once(*calls, seconds=60):
    """What each call returns, or the exception that it raises, all of them at once."""
    found = [None] * len(calls)

    def work(place):
        try:
            found[place] = calls[place]()
        except Exception as error:
            found[place] = error

    threads = [threading.Thread(target=work, args=(place,), daemon=True) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
        assert not thread.is_alive(), "deadlock"
    return found
