from trainerd.v1 import link_pb2 as _link_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JoinRequest(_message.Message):
    __slots__ = ("envelope", "hello")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    HELLO_FIELD_NUMBER: _ClassVar[int]
    envelope: _link_pb2.Envelope
    hello: HostHello
    def __init__(self, envelope: _Optional[_Union[_link_pb2.Envelope, _Mapping]] = ..., hello: _Optional[_Union[HostHello, _Mapping]] = ...) -> None: ...

class HostHello(_message.Message):
    __slots__ = ("protocol", "host")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    protocol: _link_pb2.ProtocolVersion
    host: str
    def __init__(self, protocol: _Optional[_Union[_link_pb2.ProtocolVersion, _Mapping]] = ..., host: _Optional[str] = ...) -> None: ...

class JoinResponse(_message.Message):
    __slots__ = ("envelope", "welcome")
    ENVELOPE_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    envelope: _link_pb2.Envelope
    welcome: HostWelcome
    def __init__(self, envelope: _Optional[_Union[_link_pb2.Envelope, _Mapping]] = ..., welcome: _Optional[_Union[HostWelcome, _Mapping]] = ...) -> None: ...

class HostWelcome(_message.Message):
    __slots__ = ("protocol",)
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    protocol: _link_pb2.ProtocolVersion
    def __init__(self, protocol: _Optional[_Union[_link_pb2.ProtocolVersion, _Mapping]] = ...) -> None: ...
