"""Headless Chromium, driven by its DevTools protocol over a pair of pipes; nothing but the standard library."""

import base64
import functools
import json
import os
import select
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
    "--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-sync",
    "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE = 120.0  # seconds that one answer may take, on a busy machine


def found():
    """The command of a browser of this machine, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextmanager
def served(folder):
    """The address at which a folder's files are served to this machine."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Browser:
    """One page of a browser.  complaints: errors and warnings of its console since they were last taken."""

    def __init__(self, profile):
        read, self._out = os.pipe()
        self._in, write = os.pipe()
        # the browser reads from descriptor 3 and writes to 4
        start = f'exec "$@" 3<&{read} 4>&{write}'
        command = ["bash", "-c", start, "browser", found(), *OPTIONS, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(command, pass_fds=(read, write), stderr=subprocess.DEVNULL)
        os.close(read)
        os.close(write)
        self._rest, self._number, self._events, self._session = b"", 0, [], None
        try:
            self._begin()
        except BaseException:
            self._process.kill()
            self._process.wait()
            os.close(self._in)
            os.close(self._out)
            raise

    def _begin(self):
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def _receive(self, until):
        while b"\0" not in self._rest:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._in], [], [], left)[0]:
                raise TimeoutError("the browser does not answer")
            more = os.read(self._in, 1 << 16)
            if not more:
                raise EOFError("the browser ended")
            self._rest += more
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def ask(self, method, **parameters):
        """The result of one command; events that come before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        until = time.monotonic() + PATIENCE
        while True:
            message = self._receive(until)
            if message.get("id") == self._number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self._events.append(message)

    def _await(self, method):
        until = time.monotonic() + PATIENCE
        while not any(event.get("method") == method for event in self._events):
            self._events.append(self._receive(until))
        self._events = [event for event in self._events if event.get("method") != method]

    def open(self, address):
        """Go to a page and wait until it is loaded, with all that it refers to."""
        failed = self.ask("Page.navigate", url=address).get("errorText")
        if failed:
            raise RuntimeError(f"{address}: {failed}")
        self._await("Page.loadEventFired")

    def run(self, script):
        """The value of an expression on the page; of a promise, what it comes to."""
        answer = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def click(self, selector):
        """Click on the first element that a selector finds, and wait for the page that it leads to."""
        self.run(f"document.querySelector({json.dumps(selector)}).click()")
        self._await("Page.loadEventFired")

    def until(self, script):
        """Wait until an expression on the page is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(script):
            if time.monotonic() > end:
                raise TimeoutError(f"never true: {script}")
            time.sleep(0.05)

    def size(self, width, height):
        """Of the window, in pixels."""
        self.ask(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )

    def picture(self):
        """What the window shows, as a PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])

    def complaints(self):
        """Texts of uncaught exceptions, console.error, console.warn and failed requests since the last call."""
        texts = []
        for event in self._events:
            method, facts = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                texts.append(str(facts["exceptionDetails"].get("exception", facts["exceptionDetails"])))
            elif method == "Runtime.consoleAPICalled" and facts["type"] in ("error", "warning", "assert"):
                texts.append(" ".join(str(each.get("value", each.get("description"))) for each in facts["args"]))
            elif method == "Log.entryAdded" and facts["entry"]["level"] in ("error", "warning"):
                texts.append(f"{facts['entry']['text']} {facts['entry'].get('url', '')}")
        self._events.clear()
        return texts

    def close(self):
        """End the browser."""
        os.close(self._out)
        os.close(self._in)
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
