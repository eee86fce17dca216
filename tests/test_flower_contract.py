"""What our adapters touch of flwr's private parts is there, in the form that they use; an upgrade fails here first."""

from __future__ import annotations

import importlib.metadata
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Error, Message, Metadata, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode, SubStatus
from flwr.common.serde import fab_to_proto, run_from_proto
from flwr.proto import control_pb2, fleet_pb2, message_pb2, node_pb2, runtime_pb2
from flwr.supercore.constant import NodeStatus, TaskType
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.inflatable.inflatable_protobuf_utils import make_pull_object_fn_protobuf
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPullError,
    ObjectPushError,
    ObjectUnavailableError,
    inflate_object_from_contents,
)
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.retry import RetryInvoker, exponential
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.cli import flower_superlink
from flwr.superlink.grid import HttpGrid
from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli import flower_supernode
from flwr.supernode.runtime import run_clientapp
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message

from client.flower_node import IDLE_SECONDS, SuperNodeFiles, supernode_command
from coordinator.flower_link import SuperLinkFiles, superlink_command
from protocols.flower import ACQUIRE, environment

SIGNATURES: list[tuple[Callable[..., Any], str]] = [
    (Metadata.__init__, "self run_id message_id src_node_id dst_node_id reply_to_message_id group_id created_at ttl message_type"),
    (Fab, "hash_str content verifications"),
    (fab_to_proto, "fab"),
    (run_from_proto, "run_proto"),
    (HeartbeatSender.__init__, "self heartbeat_fn"),
    (RuntimeTokenHttpInterceptor.__init__, "self token"),
    (RuntimeVersionHttpInterceptor.__init__, "self component_name"),
    (SuperExecAuthHttpInterceptor.__init__, "self master_secret protected_methods"),
    (RetryInvoker.__init__, "self wait_gen_factory recoverable_exceptions max_tries max_time"),
    (exponential, "base_delay multiplier max_delay"),
    (RuntimeHttpClient.from_server_address, "server_address insecure root_certificates interceptors retry_invoker"),
    (ControlHttpClient.from_server_address, "server_address insecure root_certificates interceptors retry_invoker"),
    (HttpGrid.__init__, "self runtime_api_address insecure root_certificates token"),
    (HttpGrid.create_message, "self content message_type dst_node_id group_id ttl"),
    (HttpGrid.push_messages, "self messages"),
    (HttpGrid.pull_messages, "self message_ids"),
    (make_pull_object_fn_protobuf, "pull_object_protobuf node run_id"),
    (inflate_object_from_contents, "object_id object_contents"),
    (pull_task_input, "client"),
    (inflatable_utils.pull_objects, "object_ids pull_object_fn"),
    (push_message, "client message context"),
    (flower_superlink, ""),
    (flower_supernode, ""),
]


@pytest.mark.parametrize(("called", "expected"), SIGNATURES, ids=lambda one: getattr(one, "__qualname__", ""))
def test_parameters_begin_as_we_pass_them(called: Callable[..., Any], expected: str) -> None:
    names, given = list(inspect.signature(called).parameters), expected.split()
    assert names[: len(given)] == given


@pytest.mark.parametrize(
    ("client", "methods"),
    [
        (
            RuntimeHttpClient,
            "AcquireTask SendTaskHeartbeat PullTaskInput PushTaskOutput PullMessages PullObject ConfirmMessageReceived close",
        ),
        (ControlHttpClient, "StartRun StopRun ListNodes RegisterNode UnregisterNode close __enter__ __exit__"),
        (HttpGrid, "set_run run get_node_ids close _runtime_client"),
        (HeartbeatSender, "start stop is_running"),
    ],
)
def test_methods_exist(client: type, methods: str) -> None:
    assert [name for name in methods.split() if not hasattr(client, name)] == []


def test_messages_of_the_protocol_have_the_fields_that_we_fill_and_read() -> None:
    runtime_pb2.AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP, TaskType.CLIENT_APP])
    runtime_pb2.PushTaskOutputRequest(sub_status=SubStatus.COMPLETED, details="")
    runtime_pb2.SendTaskHeartbeatRequest()
    assert {"task", "token"} <= set(runtime_pb2.AcquireTaskResponse.DESCRIPTOR.fields_by_name)
    assert "run" in runtime_pb2.PullTaskInputResponse.DESCRIPTOR.fields_by_name
    control_pb2.StartRunRequest(fab=fab_to_proto(Fab("", b"", {})))
    control_pb2.StopRunRequest(run_id=1)
    control_pb2.RegisterNodeRequest(public_key=b"", name=None)
    control_pb2.UnregisterNodeRequest(node_id=1)
    fleet_pb2.DeactivateNodeRequest(node_id=1)
    assert "node_id" in fleet_pb2.ActivateNodeResponse.DESCRIPTOR.fields_by_name
    assert "nodes_info" in control_pb2.ListNodesResponse.DESCRIPTOR.fields_by_name
    assert {"node_id", "public_key", "name", "status", "last_activated_at"} <= set(node_pb2.NodeInfo.DESCRIPTOR.fields_by_name)
    assert (NodeStatus.ONLINE, NodeStatus.UNREGISTERED) == ("online", "unregistered")
    runtime_pb2.PullAppMessagesRequest(message_ids=[""])
    assert {"messages_list", "message_object_trees"} <= set(runtime_pb2.PullAppMessagesResponse.DESCRIPTOR.fields_by_name)
    message_pb2.ConfirmMessageReceivedRequest(node=node_pb2.Node(), run_id=1, message_object_id="")
    assert issubclass(ObjectPullError, Exception) and issubclass(ObjectPushError, Exception)
    assert issubclass(ObjectUnavailableError, Exception) and not issubclass(ObjectUnavailableError, ObjectPullError)


def test_the_method_that_the_secret_protects_is_the_one_that_is_called() -> None:
    assert f'"{ACQUIRE}"' in inspect.getsource(RuntimeHttpClient.AcquireTask)


def test_the_grid_makes_its_client_late_and_with_our_retries() -> None:
    assert "retry_invoker=self._retry_invoker" in inspect.getsource(HttpGrid._connect)
    assert HttpGrid("127.0.0.1:1", token=str(1))._client is None


def test_a_reply_needs_no_state_of_the_process() -> None:
    metadata = Metadata(1, "m", SUPERLINK_NODE_ID, 2, "", "group", 1e9, 60.0, "query.hello")
    request = Message(content=RecordDict(), metadata=metadata)
    assert Message(Error(ErrorCode.INVALID_FAB, ""), reply_to=request).metadata.reply_to_message_id == "m"
    assert (ErrorCode.CLIENT_APP_RAISED_EXCEPTION, ErrorCode.NODE_UNAVAILABLE, ErrorCode.CLIENT_APP_CRASHED) == (2, 5, 8)
    assert (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE) == (3, 4)


def test_the_main_loop_of_a_node_uses_time_to_sleep_alone() -> None:
    source = inspect.getsource(start_client_internal)
    assert re.findall(r"\btime\.(\w+)", source) == ["sleep"] * 3
    assert source.count(f"time.sleep({IDLE_SECONDS})\n") == 1
    assert "import time\n" in source


def test_a_reply_that_is_given_up_costs_that_reply_alone() -> None:
    source = inspect.getsource(start_client_internal._push_messages)
    assert source.count("push_object_contents_from_iterable(") == 1 and "yield_object_contents(object_tree, ids_obj_to_send)," in source
    assert (
        source.index("push_object_contents_from_iterable(")
        < source.index("except Exception as err")
        < source.index("state.delete_messages(")
    )


def test_a_turn_of_the_main_loop_is_a_pull_and_a_push_that_we_replace() -> None:
    source = inspect.getsource(start_client_internal.start_client_internal)
    pull, push = source.index("run_id = _pull_and_store_message("), source.index("_push_messages(")
    assert pull < source.index("if run_id is None:") < push
    assert all(source[begin:].split(")")[0].count(word) == 1 for begin in (pull, push) for word in ("state=state", "object_store=store"))
    assert list(inspect.signature(start_client_internal._insert_message).parameters) == ["msg", "state", "store"]


def test_a_node_logs_on_by_the_client_that_we_replace() -> None:
    source = inspect.getsource(fleet_http_connection.http_request_response)
    assert source.count("FleetHttpClient.from_server_address(") == 1 and source.count("client.ActivateNode,") == 1
    assert list(inspect.signature(fleet_http_connection.FleetHttpClient.DeactivateNode).parameters) == ["self", "request"]


def test_our_command_lines_are_flowers() -> None:
    superlink = inspect.getmodule(flower_superlink)
    supernode = inspect.getmodule(flower_supernode)
    path = Path("/x")
    link = superlink_command(SuperLinkFiles(path, path, path, path, path), 9445)
    read = superlink._parse_args_run_superlink().parse_args(link[link.index("--host") :])  # type: ignore[union-attr]
    assert (read.host, read.port, read.isolation, read.enable_supernode_auth) == ("127.0.0.1", 9445, "process", True)
    assert not read.runtime_dependency_install
    node = supernode_command("127.0.0.1:9443", SuperNodeFiles(path, path, path, path), 9446)
    read = supernode._parse_args_run_supernode().parse_args(node[node.index("--") + 1 :])  # type: ignore[union-attr]
    assert (read.host, read.port, read.isolation, read.insecure) == ("127.0.0.1", 9446, "process", False)
    assert read.node_config is None and not read.runtime_dependency_install


def test_a_flower_process_stays_by_itself() -> None:
    made = environment({"PATH": "/bin", "NO_PROXY": "example.org", "FLWR_HOME": "elsewhere"}, Path("/home/flower"))
    assert (made["PATH"], made["FLWR_HOME"], made["NO_PROXY"]) == ("/bin", "/home/flower", "example.org,127.0.0.1,localhost")
    assert (made["FLWR_TELEMETRY_ENABLED"], made["FLWR_DISABLE_UPDATE_CHECK"]) == ("0", "1")


def test_the_version_is_the_one_that_was_read() -> None:
    assert importlib.metadata.version("flwr") == "1.41.0"


def test_objects_on_their_way_are_looked_for_again_after_a_second() -> None:
    for module, name in (
        (start_client_internal, "pull_objects"),
        (run_clientapp, "pull_and_inflate_object_from_tree"),
    ):
        original = getattr(inflatable_utils, name)
        assert getattr(getattr(module, name), "func", getattr(module, name)) is original, "what we replace is what the module calls"
        assert inspect.signature(original).parameters["initial_backoff"].default == 1
        assert inspect.signature(original).parameters["max_time"].default == 7200
    assert "max_tries_per_object" in inspect.signature(inflatable_utils.pull_objects).parameters


def test_a_reply_is_told_of_once_and_its_message_comes_last() -> None:
    child = message_pb2.ObjectTree(object_id="child")
    tree = message_pb2.ObjectTree(object_id="message", children=[child])
    assert [one.object_id for one in iterate_object_tree(tree)] == ["child", "message"]
    assert HttpGrid("127.0.0.1:1", token=str(1)).node.node_id == SUPERLINK_NODE_ID
