"""A coordinator that answers every call with texts that a terminal would obey. `--fails`: with errors that
quote such texts. It prints `hostile address=HOST:PORT` and runs until it is killed.

A program of its own: a test that forks must not have threads of gRPC.
"""

import concurrent.futures
import pathlib
import sys
import tempfile

import grpc
from google.protobuf import descriptor as descriptors

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))
from python_client_test import generate_stubs  # noqa: E402  # pylint: disable=wrong-import-position
from hostile_text import HOSTILE  # noqa: E402  # pylint: disable=wrong-import-position


def fill(message, depth=0):
    """Sets every field: texts are hostile."""
    for field in message.DESCRIPTOR.fields:
        is_list = hasattr(getattr(message, field.name), "append") or hasattr(
            getattr(message, field.name), "add"
        )
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            getattr(message, field.name)[HOSTILE].string_value = HOSTILE
        elif field.message_type is not None:
            if depth < 6:
                target = getattr(message, field.name)
                fill(target.add() if is_list else target, depth + 1)
                if not is_list:
                    target.SetInParent()
        else:
            value = 1
            if field.cpp_type == descriptors.FieldDescriptor.CPPTYPE_STRING:
                value = HOSTILE
            elif field.cpp_type == descriptors.FieldDescriptor.CPPTYPE_ENUM:
                value = field.enum_type.values[-1].number
            if is_list:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    return message


class HostileCoordinator:
    """Answers every call with texts that a terminal would obey."""

    def __init__(self, api, fails):
        self._api = api
        self._fails = fails
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        for name, service in (
            ("job", "JobService"),
            ("method", "MethodService"),
            ("cluster", "ClusterService"),
            ("checkpoint", "CheckpointService"),
        ):
            self._add(api[name].DESCRIPTOR.services_by_name[service])
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def serve(self):
        self._server.start()
        print(f"hostile address={self.address}", flush=True)
        self._server.wait_for_termination()

    def _add(self, service):
        handlers = {}
        for method in service.methods:
            answer, request = method.output_type._concrete_class, method.input_type._concrete_class
            make = (
                grpc.unary_stream_rpc_method_handler
                if method.name in ("WatchJob", "DownloadCheckpoint")
                else grpc.unary_unary_rpc_method_handler
            )
            handlers[method.name] = make(
                self._events if method.name == "WatchJob" else self._answer(answer),
                request.FromString,
                answer.SerializeToString,
            )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(service.full_name, handlers),)
        )

    def _answer(self, kind):
        def handler(_, context):
            if self._fails:
                self._abort(context)
            answer = fill(kind())
            for name in ("next_page_token", "state"):
                if name in kind.DESCRIPTOR.fields_by_name:
                    answer.ClearField(name)
            if "state" in kind.DESCRIPTOR.fields_by_name:
                answer.state = self._api["job"].Job.STATE_FAILED
            return answer

        return handler

    def _events(self, _, context):
        if self._fails:
            self._abort(context)
        kinds = self._api["job"].JobEvent.DESCRIPTOR.oneofs_by_name["kind"].fields
        for number, kind in enumerate(kinds, 1):
            answer = self._api["job"].WatchJobResponse()
            answer.event.sequence = number
            fill(getattr(answer.event, kind.name))
            yield answer

    def _abort(self, context):
        detail = fill(self._api["types"].ErrorDetail())
        status = self._api["types"].RpcStatus(code=9, message=HOSTILE)
        status.details.add().Pack(detail)
        context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, HOSTILE)


def main():
    with tempfile.TemporaryDirectory() as folder:
        HostileCoordinator(generate_stubs(folder), "--fails" in sys.argv).serve()


if __name__ == "__main__":
    main()
