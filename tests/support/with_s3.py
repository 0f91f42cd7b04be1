#!/usr/bin/env python3
"""Runs a program beside an object store that speaks S3 and checks signatures and rights: PyPI's moto.

    with_s3.py [--venv FOLDER] -- PROGRAM [ARGUMENT ...]

The program finds the store by its environment: ESPALIER_S3_ENDPOINT, ESPALIER_S3_BUCKET, AWS_ACCESS_KEY_ID,
AWS_SECRET_ACCESS_KEY. The keys are of a user who may use this one bucket and nothing else. All of it is in the
memory of this process and ends with it.
FOLDER holds the packages, which tests/support/venv.sh installs there once; default: build/moto-venv of the project.
Exit status: the program's; 1 when the packages cannot be installed; 128 + n when a signal n ended the program.
"""
import argparse
import json
import logging
import os
import signal
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACKAGES = "moto[s3,server]==5.2.5"
BUCKET = "espalier-test"
REGION = "us-east-1"
_INSIDE = "ESPALIER_INSIDE_MOTO_VENV"


def enter_environment(folder):
    """Starts this program again with the Python that has the packages; returns when it already has it."""
    if os.environ.pop(_INSIDE, "") == folder:
        return
    environment = dict(os.environ, ESPALIER_VENV_PACKAGES=PACKAGES)
    environment[_INSIDE] = folder
    script = os.path.join(ROOT, "tests", "support", "venv.sh")
    os.execve(script, [script, folder, os.path.abspath(__file__), *sys.argv[1:]], environment)


def start_store():
    """An object store on a free port of this machine; returns it and its address."""
    from moto.server import ThreadedMotoServer

    # A line for each request would hide what the program prints.
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    return server, f"http://{host}:{port}"


def set_up(endpoint):
    """Makes the bucket and its user, then has the store check everything; returns the user's keys."""
    import boto3
    import requests

    def client(service):
        return boto3.client(service, endpoint_url=endpoint, region_name=REGION, aws_access_key_id="setup",
                            aws_secret_access_key="setup")

    client("s3").create_bucket(Bucket=BUCKET)
    iam = client("iam")
    iam.create_user(UserName="espalier")
    # The rights that the documentation names, and no more.
    # Of a bucket that does not exist, only those who may list it are told so.
    buckets = [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}-missing"]
    of_bucket = {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": buckets}
    of_objects = {
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
        "Resource": f"arn:aws:s3:::{BUCKET}/*",
    }
    policy = {"Version": "2012-10-17", "Statement": [of_bucket, of_objects]}
    iam.put_user_policy(UserName="espalier", PolicyName="bucket", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="espalier")["AccessKey"]
    # From now on no request goes unchecked.
    requests.post(f"{endpoint}/moto-api/reset-auth", data="0", timeout=10).raise_for_status()
    try:
        client("s3").list_objects_v2(Bucket=BUCKET)
    except Exception as refused:  # pylint: disable=broad-except
        if "InvalidAccessKeyId" not in str(refused):
            raise
    else:
        raise RuntimeError("expected that the object store refuses unknown keys, found that it does not")
    return key["AccessKeyId"], key["SecretAccessKey"]


def run(command, environment):
    """The program's exit status. A signal to this process ends the program, too."""
    with subprocess.Popen(command, env=environment) as program:

        def stop(number, _):
            program.terminate()
            try:
                program.wait(5)
            except subprocess.TimeoutExpired:
                program.kill()
            sys.exit(128 + number)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, stop)
        status = program.wait()
    return status if status >= 0 else 128 - status


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--venv", default=os.path.join(ROOT, "build", "moto-venv"))
    parser.add_argument("command", nargs="+", metavar="PROGRAM", help="after --")
    options = parser.parse_args()
    enter_environment(os.path.abspath(options.venv))

    # What the user of this machine has set must not lead elsewhere.
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith("AWS_") and not name.lower().endswith("_proxy")}
    environment.pop("ESPALIER_VENV_PACKAGES", None)
    os.environ.clear()
    os.environ.update(environment)
    server, endpoint = start_store()
    try:
        access_key, secret_key = set_up(endpoint)
        environment.update(ESPALIER_S3_ENDPOINT=endpoint, ESPALIER_S3_BUCKET=BUCKET,
                           AWS_ACCESS_KEY_ID=access_key, AWS_SECRET_ACCESS_KEY=secret_key)
        return run(options.command, environment)
    finally:
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
