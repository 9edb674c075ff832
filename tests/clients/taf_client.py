#!/usr/bin/env python3
"""A client of TAF that knows nothing but the published protobuf files (docs/api.md).

Usage: taf_client.py PROTO_FOLDER SERVER AUTHORITY_PEM USER PASSWORD_FILE COMMAND...

  versions PLAN                    numbers of the versions of a plan, newest first
  ls VERSION DIRECTORY             what is in a directory: kind, size, path
  find PATTERN                     what is found in any version: version, path
  restore VERSION TARGET PATH...   restores below a directory, watching the job; prints its states
  watch JOB                        follows a job to its end; prints its states
  refused                          asks for something that must be refused; prints the stable reason

Needs python3-grpcio and python3-protobuf, and protoc (protobuf-compiler and libprotobuf-dev) or grpcio-tools.
"""

import importlib
import pathlib
import subprocess
import sys
import tempfile

import grpc

# The name in the certificate of every controller, whatever host it runs on.
NAME = "taf-controller"


def compile_protos(folder):
    """Makes Python modules of every protobuf file; no gRPC plug-in is needed."""
    out = tempfile.mkdtemp(prefix="taf-client-")
    files = [
        str(path.relative_to(folder))
        for below in ("taf/v1", "google/api")
        for path in sorted((folder / below).glob("*.proto"))
    ]
    arguments = [f"--proto_path={folder}", f"--python_out={out}", *files]
    try:
        tools = [sys.executable, "-m", "grpc_tools.protoc"]
        include = importlib.import_module("grpc_tools").__path__[0] + "/_proto"
        arguments.insert(0, f"--proto_path={include}")
    except ImportError:
        tools = ["protoc"]
    subprocess.run([*tools, *arguments], check=True)
    sys.path.insert(0, out)


class Service:
    """The calls of a service, made from its descriptor."""

    def __init__(self, channel, file, name, metadata):
        module = importlib.import_module(f"taf.v1.{file}_pb2")
        from google.protobuf import symbol_database

        database = symbol_database.Default()
        service = module.DESCRIPTOR.services_by_name[name]
        for method in service.methods:
            request = self.message(database, method.input_type)
            response = self.message(database, method.output_type)
            streams = getattr(method, "server_streaming", None)
            if streams is None:
                # Older libraries tell it only in the descriptor's own message.
                from google.protobuf import descriptor_pb2

                proto = descriptor_pb2.ServiceDescriptorProto()
                service.CopyToProto(proto)
                streams = proto.method[method.index].server_streaming
            kind = channel.unary_stream if streams else channel.unary_unary
            call = kind(
                f"/{service.full_name}/{method.name}",
                request_serializer=request.SerializeToString,
                response_deserializer=response.FromString,
            )
            setattr(self, method.name, self.bound(call, request, metadata))

    @staticmethod
    def message(database, descriptor):
        from google.protobuf import message_factory

        if hasattr(message_factory, "GetMessageClass"):
            return message_factory.GetMessageClass(descriptor)
        return database.GetPrototype(descriptor)

    @staticmethod
    def bound(call, request, metadata):
        return lambda **fields: call(request(**fields), metadata=metadata, timeout=120)


class Client:
    """A signed-in connection."""

    def __init__(self, server, authority, user, password):
        credentials = grpc.ssl_channel_credentials(authority.read_bytes())
        options = [("grpc.ssl_target_name_override", NAME)]
        self.channel = grpc.secure_channel(server, credentials, options)
        self.metadata = []
        answer = self.service("identity", "IdentityService").Login(user=user, password=password)
        self.metadata = [("authorization", f"Bearer {answer.token}")]

    def service(self, file, name):
        return Service(self.channel, file, name, self.metadata)


def pages(call, field, **fields):
    """All rows of a list, page by page."""
    token = ""
    while True:
        answer = call(page_token=token, page_size=2, **fields)
        yield from getattr(answer, field)
        token = answer.next_page_token
        if not token:
            return


def follow(client, job):
    """Each state that a job is seen in, once, and then how it ended."""
    module = importlib.import_module("taf.v1.job_pb2")
    seen = None
    for answer in client.service("job", "JobService").WatchJob(name=job):
        state = module.JobState.Name(answer.job.state)
        if state != seen:
            print(state, flush=True)
            seen = state
    return seen in ("JOB_STATE_SUCCEEDED", "JOB_STATE_SUCCEEDED_WITH_ISSUES")


def reason(error):
    """The stable reason of a refusal: a google.rpc.ErrorInfo in the status's details."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    # google.rpc.Status and ErrorInfo as far as they are needed here, so that no further package is.
    file = descriptor_pb2.FileDescriptorProto(name="client/rpc.proto", package="client", syntax="proto3")
    file.dependency.append("google/protobuf/any.proto")
    importlib.import_module("google.protobuf.any_pb2")
    status = file.message_type.add(name="Status")
    status.field.add(name="code", number=1, type=5, label=1)
    status.field.add(name="message", number=2, type=9, label=1)
    status.field.add(name="details", number=3, type=11, label=3, type_name=".google.protobuf.Any")
    info = file.message_type.add(name="ErrorInfo")
    info.field.add(name="reason", number=1, type=9, label=1)
    info.field.add(name="domain", number=2, type=9, label=1)
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())

    def message(name):
        descriptor = pool.FindMessageTypeByName(name)
        if hasattr(message_factory, "GetMessageClass"):
            return message_factory.GetMessageClass(descriptor)
        return message_factory.MessageFactory(pool).GetPrototype(descriptor)

    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in message("client.Status").FromString(value).details:
                if detail.type_url.endswith("/google.rpc.ErrorInfo"):
                    return message("client.ErrorInfo").FromString(detail.value).reason
    return str(error.code())


def run(client, command, arguments):
    versions = client.service("backup", "VersionService")
    if command == "versions":
        (plan,) = arguments
        for version in pages(versions.ListVersions, "versions", plan=f"plans/{plan}"):
            print(version.name)
    elif command == "ls":
        version, directory = arguments
        kinds = importlib.import_module("taf.v1.backup_pb2").EntryKind
        where = {"display": directory}
        for entry in pages(versions.ListEntries, "entries", version=version, directory=where):
            print(kinds.Name(entry.kind), entry.size, entry.file_name.display)
    elif command == "find":
        catalog = client.service("catalog", "CatalogService")
        for answer in catalog.FindEntries(patterns=arguments):
            for found in answer.entries:
                print(found.version, found.path.display)
    elif command == "restore":
        version, target, *paths = arguments
        answer = versions.RestoreVersion(
            version=version,
            target={"display": target},
            paths=[{"display": path} for path in paths],
        )
        return follow(client, answer.job)
    elif command == "watch":
        (job,) = arguments
        return follow(client, job)
    elif command == "refused":
        try:
            versions.GetVersion(name="lines/1/versions/999999")
        except grpc.RpcError as error:
            print(reason(error))
            return True
        return False
    else:
        sys.exit(__doc__)
    return True


def main():
    if len(sys.argv) < 7:
        sys.exit(__doc__)
    protos, server, authority, user, password, command, *arguments = sys.argv[1:]
    compile_protos(pathlib.Path(protos))
    password = pathlib.Path(password).read_text(encoding="utf-8").strip()
    client = Client(server, pathlib.Path(authority), user, password)
    sys.exit(0 if run(client, command, arguments) else 1)


if __name__ == "__main__":
    main()
