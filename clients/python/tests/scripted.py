"""A server that answers as a test says, for what a real one does rarely."""

import concurrent.futures
import contextlib

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2


def details(code, reason, *, retry_after=None, domain="facematch"):
    """The trailers of an error as the engine has them."""
    packed = [error_details_pb2.ErrorInfo(reason=reason, domain=domain)]
    if retry_after is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(retry_after * 1e9))
        packed.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=code.value[0], message="told")
    for one in packed:
        wrapped = any_pb2.Any()
        wrapped.Pack(one)
        status.details.append(wrapped)
    return (("grpc-status-details-bin", status.SerializeToString()), ("x-request-id", "call-7"))


class Script(grpc.GenericRpcHandler):
    """Fails each call with the next of its errors, and then answers with nothing."""

    def __init__(self, *errors):
        self.errors = list(errors)
        self.paths = []
        self.metadata = []

    def service(self, details):
        self.paths.append(details.method)
        self.metadata.append(dict(details.invocation_metadata))

        def answer(_, context):
            if self.errors:
                code, trailers = self.errors.pop(0)
                context.set_trailing_metadata(trailers)
                context.abort(code, "told")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@contextlib.contextmanager
def scripted(script, credentials=None):
    """Runs it on a free port."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((script,))
    port = (
        server.add_insecure_port("127.0.0.1:0")
        if credentials is None
        else server.add_secure_port("127.0.0.1:0", credentials)
    )
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()
