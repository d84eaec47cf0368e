// Generated from protocol/schema/halloo.v1.schema.json by `npm run generate`. Do not edit.

/**
 * What can be asked. Every request but `hello` needs a signed-in connection.
 */
export type Request =
  | (Hello & {
      type: 'hello';
    })
  | {
      type: 'sign_out';
    }
  | (WatchPresence & {
      type: 'watch_presence';
    })
  | (Invite & {
      type: 'invite';
    })
  | {
      call: CallId;
      type: 'ringing';
    }
  | (Answer & {
      type: 'answer';
    })
  | (CandidateFrom & {
      type: 'candidate';
    })
  | {
      call: CallId;
      type: 'decline';
    }
  | {
      call: CallId;
      type: 'busy';
    }
  | {
      call: CallId;
      type: 'cancel';
    }
  | {
      call: CallId;
      reason: EndReason;
      type: 'hang_up';
    }
  | (Description & {
      type: 'description';
    })
  | {
      call: CallId;
      media: MediaState;
      type: 'media_state';
    }
  | (Announce & {
      type: 'announce';
    })
  | (JoinRoom & {
      type: 'join_room';
    })
  | {
      room: RoomId;
      type: 'leave_room';
    }
  | {
      room: RoomId;
      /**
       * The SDP offer; sections may only be added.
       */
      sdp: string;
      type: 'room_offer';
    }
  | (Subscribe & {
      type: 'subscribe';
    })
  | {
      media: RoomMedia;
      room: RoomId;
      type: 'room_media';
    }
  | (Moderate & {
      type: 'moderate';
    });
/**
 * How a user proves who they are.
 */
export type Credential =
  | {
      /**
       * The token, in compact form.
       */
      token: string;
      type: 'token';
    }
  | {
      name: UserId;
      type: 'guest';
    };
/**
 * a user id
 */
export type UserId = string;
/**
 * a device id
 */
export type DeviceId = string;
/**
 * an epoch
 */
export type Epoch = string;
/**
 * a session id
 */
export type SessionId = string;
/**
 * a call id
 */
export type CallId = string;
/**
 * What the picture shows.
 */
export type VideoState = 'off' | 'camera' | 'screen';
/**
 * Why a call ended. Unknown reasons read as `failed`.
 */
export type EndReason =
  | 'hung_up'
  | 'declined'
  | 'busy'
  | 'cancelled'
  | 'no_answer'
  | 'answered_elsewhere'
  | 'declined_elsewhere'
  | 'peer_lost'
  | 'failed';
/**
 * Offer or answer (RFC 3264).
 */
export type SdpKind = 'offer' | 'answer';
/**
 * A side of a call.
 */
export type AnnouncedRole = 'caller' | 'callee';
/**
 * Whether a source is there.
 */
export type SourceState = 'off' | 'muted' | 'on';
/**
 * a room name
 */
export type RoomId = string;
/**
 * A source that a participant can publish.
 */
export type SourceKind = 'microphone' | 'camera' | 'screen';
/**
 * A participant of one room, by number: below 2^30, never 0, and never given to two within the life of a room.
 */
export type ParticipantId = number;
/**
 * An act of moderation.
 */
export type Moderation =
  | {
      source: SourceOf;
      type: 'mute';
    }
  | {
      participant: ParticipantId;
      type: 'remove';
    }
  | {
      /**
       * Whether it is locked now.
       */
      locked: boolean;
      type: 'lock';
    }
  | {
      participant: ParticipantId;
      role: Role;
      type: 'set_role';
    }
  | {
      type: 'close';
    };
/**
 * Takes part, or also keeps order.
 */
export type Role = 'participant' | 'moderator';
/**
 * What the server sends. The three forms differ by their keys: `reply_to`, or `seq`.
 */
export type ServerMessage = Reply | NumberedEvent;
/**
 * The one reply to a request.
 */
export type Reply = Reply1 & Reply2;
export type Reply1 =
  | {
      result: ReplyResult;
    }
  | {
      error: ErrorBody;
    };
/**
 * What a request gave.
 */
export type ReplyResult =
  | {
      type: 'ok';
    }
  | (Welcome & {
      type: 'welcome';
    })
  | {
      type: 'presence';
      /**
       * One entry a user.
       */
      users: Presence[];
    }
  | (RoomJoined & {
      type: 'room_joined';
    })
  | {
      /**
       * The SDP answer.
       */
      sdp: string;
      type: 'room_answer';
    };
/**
 * How far a call got.
 */
export type SnapshotState = 'ringing' | 'active';
/**
 * Whether the server can reach the other side's device at the moment. Media may go on without it.
 */
export type PeerReach = 'lost' | 'back';
/**
 * What went wrong. Codes are stable: a client may act on them. New ones may be added; treat an unknown one as `internal`.
 */
export type ErrorCode =
  | 'bad_message'
  | 'unknown_type'
  | 'too_large'
  | 'rate_limited'
  | 'not_signed_in'
  | 'already_signed_in'
  | 'token_invalid'
  | 'token_expired'
  | 'token_not_yet_valid'
  | 'token_audience'
  | 'guests_not_allowed'
  | 'name_taken'
  | 'callee_unknown'
  | 'callee_offline'
  | 'callee_self'
  | 'callee_busy'
  | 'call_unknown'
  | 'call_state'
  | 'call_exists'
  | 'glare'
  | 'too_many_calls'
  | 'room_unknown'
  | 'room_not_granted'
  | 'grant_missing'
  | 'room_full'
  | 'room_locked'
  | 'participant_unknown'
  | 'offer_refused'
  | 'media_unavailable'
  | 'shutting_down'
  | 'internal';
/**
 * What happens without being asked.
 */
export type Event =
  | (Presence & {
      type: 'presence';
    })
  | (IncomingCall & {
      type: 'incoming_call';
    })
  | {
      call: CallId;
      device: DeviceId;
      type: 'ringing';
    }
  | (Answered & {
      type: 'answered';
    })
  | (CandidateFrom & {
      type: 'candidate';
    })
  | (Description & {
      type: 'description';
    })
  | {
      call: CallId;
      media: MediaState;
      type: 'media_state';
    }
  | {
      call: CallId;
      reach: PeerReach;
      type: 'peer_reach';
    }
  | (Ended & {
      type: 'ended';
    })
  | {
      /**
       * For people.
       */
      message: string;
      type: 'going_away';
    }
  | {
      participant: Participant;
      room: RoomId;
      type: 'participant_joined';
    }
  | {
      participant: ParticipantId;
      reason: LeaveReason;
      room: RoomId;
      type: 'participant_left';
    }
  | {
      participant: Participant;
      room: RoomId;
      type: 'participant_changed';
    }
  | {
      room: RoomId;
      state: RoomState;
      type: 'room_changed';
    }
  | {
      reason: LeaveReason;
      room: RoomId;
      type: 'room_left';
    }
  | {
      room: RoomId;
      type: 'rejoin_room';
    }
  | (SlotsChanged & {
      type: 'slots_changed';
    })
  | {
      /**
       * Who; absent where nobody does.
       */
      participant?: ParticipantId | null;
      room: RoomId;
      type: 'dominant_speaker';
    }
  | (LayersWanted & {
      type: 'layers_wanted';
    })
  | {
      kind: SourceKind;
      room: RoomId;
      type: 'publishing_policed';
    }
  | {
      type: 'unknown';
    };
/**
 * Why somebody is no longer in a room. Unknown reasons read as `left`.
 */
export type LeaveReason = 'removed' | 'closed' | 'lost' | 'rejoined' | 'left';

/**
 * Everything on the wire, as one schema (draft 2020-12): `client` and `server` are the messages of each side.
 */
export interface HallooProtocolV1 {
  client: ClientMessage;
  server: ServerMessage;
}
/**
 * What a client sends: `{"id": 7, "request": {"type": "invite", ...}}`.
 */
export interface ClientMessage {
  /**
   * Chosen by the client, unique within its connection; the reply carries it back.
   */
  id: number;
  request: Request;
}
/**
 * The first request on every connection.
 */
export interface Hello {
  client: ClientInfo;
  credential: Credential;
  device: DeviceId;
  /**
   * The session to go on with, after a broken connection.
   */
  resume?: Resume | null;
}
/**
 * A client's name and version.
 */
export interface ClientInfo {
  /**
   * Like `halloo-engine`.
   */
  name: string;
  /**
   * Like `0.1.0`.
   */
  version: string;
}
/**
 * Where to go on.
 */
export interface Resume {
  epoch: Epoch;
  /**
   * The `seq` of the last event seen, 0 for none.
   */
  last_seq: number;
  session: SessionId;
}
/**
 * Asks for presence now and for `presence` events from now on; replaces an earlier watch.
 */
export interface WatchPresence {
  /**
   * These users (at most 1,000), or, absent, everyone the server lets this user see.
   */
  users?: UserId[] | null;
}
/**
 * Calls somebody: all of their devices ring. Replied to with `ok` once at least one device was told.
 */
export interface Invite {
  call: CallId;
  media: MediaState;
  /**
   * The caller's SDP offer (RFC 9429), without candidates or with some.
   */
  sdp: string;
  to: UserId;
}
/**
 * What a participant sends at the moment.
 */
export interface MediaState {
  /**
   * Whether the microphone is muted.
   */
  audio_muted: boolean;
  video: VideoState;
}
/**
 * Takes a call. The first device to answer wins.
 */
export interface Answer {
  call: CallId;
  media: MediaState;
  /**
   * The callee's SDP answer.
   */
  sdp: string;
}
/**
 * A candidate and its call, in either direction.
 */
export interface CandidateFrom {
  call: CallId;
  candidate: Candidate;
}
/**
 * A trickled ICE candidate (W3C `RTCIceCandidateInit`, RFC 8838).
 */
export interface Candidate {
  /**
   * The candidate line without `a=`; empty for the end of candidates.
   */
  candidate: string;
  /**
   * The media section's index.
   */
  sdp_m_line_index?: number | null;
  /**
   * The media section's mid.
   */
  sdp_mid?: string | null;
  /**
   * The ICE generation it belongs to.
   */
  username_fragment?: string | null;
}
/**
 * A further offer or answer within an answered call: ICE restart, or a new route. Opaque to the server.
 */
export interface Description {
  call: CallId;
  kind: SdpKind;
  /**
   * The SDP.
   */
  sdp: string;
}
/**
 * Tells a server that lost its memory of a call that goes on: both sides announce it, and it is whole again.
 */
export interface Announce {
  call: CallId;
  media: MediaState;
  peer: UserId;
  role: AnnouncedRole;
}
/**
 * Enters a room, which exists from the first who enters until the last has left. Replied to with `room_joined`.
 *
 * Asked again by a device that is in the room already, it replaces that device's media: after `rejoin_room`, or a reload.
 */
export interface JoinRoom {
  media: RoomMedia;
  room: RoomId;
  /**
   * The SDP offer for the forwarding unit: what one sends, and the receive slots.
   */
  sdp: string;
  /**
   * A token that grants this room, where the one of `hello` does not. Of the same user.
   */
  token?: string | null;
}
/**
 * What a participant publishes at the moment.
 */
export interface RoomMedia {
  camera: SourceState;
  microphone: SourceState;
  screen: SourceState;
}
/**
 * What one shows, so that the forwarding unit sends it; replaces what one said before. Replied to with `ok`.
 *
 * Until it is asked for the first time, every video slot follows the dominant speaker.
 */
export interface Subscribe {
  /**
   * The size of the tiles that follow the dominant speaker, for the slots that `show` leaves over; absent where there are
   * none.
   */
  others?: TileSize | null;
  room: RoomId;
  /**
   * The pictures shown, the most important first; at most 32.
   *
   * @maxItems 32
   */
  show: Shown[];
}
/**
 * Pixels on the screen.
 */
export interface TileSize {
  /**
   * Down.
   */
  height: number;
  /**
   * Across.
   */
  width: number;
}
/**
 * A picture that is shown.
 */
export interface Shown {
  /**
   * Whether it goes before others when bandwidth is short.
   */
  pinned?: boolean;
  size: TileSize;
  source: SourceOf;
}
/**
 * A source of a participant.
 */
export interface SourceOf {
  kind: SourceKind;
  participant: ParticipantId;
}
/**
 * What a moderator does. Replied to with `ok`.
 */
export interface Moderate {
  action: Moderation;
  room: RoomId;
}
/**
 * The reply to [`Hello`].
 */
export interface Welcome {
  /**
   * Calls this device is part of or that ring it.
   */
  calls: CallSnapshot[];
  /**
   * What others are shown.
   */
  display_name: string;
  epoch: Epoch;
  /**
   * Servers for ICE, to be used until the session ends.
   */
  ice_servers: IceServer[];
  limits: Limits;
  /**
   * True: missed events follow, numbered on from `last_seq`. False: this is a new session, numbered from 1; `calls` is all
   * the server knows, and a client in a call that is not among them announces it.
   */
  resumed: boolean;
  /**
   * Rooms this device is in, with `resumed` false; media may well have gone on. A room that a client does not want any
   * more it leaves; one that is missing here it joins again.
   */
  rooms?: RoomSnapshot[];
  session: SessionId;
  user: UserId;
}
/**
 * A call as a snapshot shows it.
 */
export interface CallSnapshot {
  call: CallId;
  peer: UserId;
  peer_media: MediaState;
  role: AnnouncedRole;
  state: SnapshotState;
}
/**
 * A STUN or TURN server (W3C `RTCIceServer`).
 */
export interface IceServer {
  /**
   * For TURN.
   */
  credential?: string | null;
  /**
   * `stun:`, `turn:` or `turns:` URLs.
   */
  urls: string[];
  /**
   * For TURN.
   */
  username?: string | null;
}
/**
 * Limits in force.
 */
export interface Limits {
  /**
   * Bytes in one message.
   */
  max_message_bytes: number;
  /**
   * Sustained messages per second.
   */
  messages_per_second: number;
  /**
   * How often the server pings.
   */
  ping_interval_ms: number;
  /**
   * How long a session survives without a connection.
   */
  resume_window_ms: number;
  /**
   * How long a call rings.
   */
  ring_timeout_ms: number;
}
/**
 * A room as it is.
 */
export interface RoomSnapshot {
  /**
   * Who speaks.
   */
  dominant_speaker?: ParticipantId | null;
  grants: RoomGrants;
  /**
   * Everybody who is there, oneself included, in the order in which they came.
   */
  participants: Participant[];
  room: RoomId;
  state: RoomState;
  you: ParticipantId;
}
/**
 * What one may do in a room, as one's token or the server says.
 */
export interface RoomGrants {
  /**
   * Whether one may moderate.
   */
  moderate: boolean;
  /**
   * The sources one may publish.
   */
  publish: SourceKind[];
  /**
   * Whether one may receive.
   */
  subscribe: boolean;
}
/**
 * Somebody in a room.
 */
export interface Participant {
  device: DeviceId;
  /**
   * What to show.
   */
  display_name: string;
  media: RoomMedia;
  participant: ParticipantId;
  reach: PeerReach;
  role: Role;
  user: UserId;
}
/**
 * What holds for all in a room.
 */
export interface RoomState {
  limits: RoomLimits;
  /**
   * Whether nobody new may enter.
   */
  locked: boolean;
}
/**
 * Limits in force in a room.
 */
export interface RoomLimits {
  /**
   * The tallest picture to send, in pixels.
   */
  max_height: number;
  /**
   * Participants at a time.
   */
  max_participants: number;
  /**
   * What one participant may publish, all sources together, in kbit/s.
   */
  max_publish_kbps: number;
}
/**
 * Whether a user can be called.
 */
export interface Presence {
  /**
   * What to show.
   */
  display_name: string;
  /**
   * Whether they are in a call.
   */
  in_call: boolean;
  /**
   * Whether a device of theirs is signed in.
   */
  online: boolean;
  user: UserId;
}
/**
 * The reply to [`JoinRoom`].
 */
export interface RoomJoined {
  /**
   * The forwarding unit's SDP answer.
   */
  sdp: string;
  snapshot: RoomSnapshot;
}
/**
 * An error as replies carry it.
 */
export interface ErrorBody {
  /**
   * With `glare`: the call to answer instead.
   */
  call?: CallId | null;
  code: ErrorCode;
  /**
   * For people: what was attempted, on what, and what to do. English; translate by `code`.
   */
  message: string;
  /**
   * With `rate_limited`: how long to wait.
   */
  retry_after_ms?: number | null;
}
export interface Reply2 {
  /**
   * The request's id; 0 where the message was so malformed that it had none.
   */
  reply_to: number;
}
/**
 * An event and its number.
 */
export interface NumberedEvent {
  event: Event;
  /**
   * 1 for the session's first, then one more each.
   */
  seq: number;
}
/**
 * Event: somebody calls. The device shows it and sends `ringing`, then `answer`, `decline` or `busy`.
 */
export interface IncomingCall {
  call: CallId;
  from: UserId;
  /**
   * What to show.
   */
  from_name: string;
  media: MediaState;
  /**
   * How long it will ring.
   */
  ring_timeout_ms: number;
  /**
   * The caller's SDP offer.
   */
  sdp: string;
}
/**
 * Event, to the caller: the call was taken.
 */
export interface Answered {
  by_device: DeviceId;
  call: CallId;
  media: MediaState;
  /**
   * The callee's SDP answer.
   */
  sdp: string;
}
/**
 * Event: the call is over for this device.
 */
export interface Ended {
  call: CallId;
  reason: EndReason;
}
/**
 * Event: some slots show something else now. For layout; what a packet belongs to is told by its CSRC.
 */
export interface SlotsChanged {
  room: RoomId;
  /**
   * The slots that changed.
   */
  slots: SlotShows[];
}
/**
 * What a slot shows.
 */
export interface SlotShows {
  /**
   * The slot: the mid of its media section.
   */
  mid: string;
  /**
   * What it shows; absent where nothing.
   */
  source?: SourceOf | null;
}
/**
 * Event, to a publisher: which part of its source somebody receives. What lies above need not be sent.
 */
export interface LayersWanted {
  /**
   * How many encodings, from the smallest; 0 where nobody receives it.
   */
  encodings: number;
  kind: SourceKind;
  room: RoomId;
  /**
   * How many spatial layers of the largest of these.
   */
  spatial: number;
}
