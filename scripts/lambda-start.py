#!/usr/bin/env python3
"""How long a package takes from its start until it asks for its first event.

    scripts/lambda-start.py build/producer.zip build/consumer-lambda.zip

Each is started ten times beside a stand-in for Lambda's runtime API; the median
and the extremes are printed, in milliseconds. What Lambda adds of its own (a new
sandbox, the download of the package) is not in it.
"""

import http.server
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import zipfile

STARTS = 10

# Nothing of it is reached before there is an event.
ENVIRONMENT = {
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_LAMBDA_FUNCTION_NAME": "measured",
    "AWS_LAMBDA_FUNCTION_VERSION": "1",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
    "AWS_LAMBDA_LOG_GROUP_NAME": "measured",
    "AWS_LAMBDA_LOG_STREAM_NAME": "measured",
    "BOTTLES_TO": "s3://measured",
    "BOTTLES_SMALL_QUEUE": "http://localhost/small",
    "BOTTLES_SMALL_DEAD_LETTERS": "http://localhost/small-dead",
    "BOTTLES_LARGE_QUEUE": "http://localhost/large",
    "BOTTLES_LARGE_DEAD_LETTERS": "http://localhost/large-dead",
}


class Runtime(http.server.BaseHTTPRequestHandler):
    asked = threading.Event()

    def do_GET(self):
        Runtime.asked.set()
        # No event ever comes.
        time.sleep(60)

    def log_message(self, *_):
        pass


def start(program, address):
    Runtime.asked.clear()
    environment = {**ENVIRONMENT, "AWS_LAMBDA_RUNTIME_API": address}
    begun = time.perf_counter()
    child = subprocess.Popen([program], env=environment, stderr=subprocess.PIPE)
    try:
        if not Runtime.asked.wait(20):
            child.kill()
            sys.exit(f"{program} asked for nothing: {child.stderr.read().decode()}")
        return (time.perf_counter() - begun) * 1000
    finally:
        child.kill()
        child.wait()


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Runtime)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_address[1]}"
    for package in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            program = zipfile.ZipFile(package).extract("bootstrap", folder)
            os.chmod(program, 0o755)
            times = sorted(start(program, address) for _ in range(STARTS))
            size = os.path.getsize(package) / 1e6
            median = statistics.median(times)
            print(f"{package}: {size:.1f} MB, first event asked for after {median:.0f} ms ({times[0]:.0f}-{times[-1]:.0f})")


main()
