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
    };
/**
 * How far a call got.
 */
export type SnapshotState = 'ringing' | 'active';
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
      type: 'unknown';
    };
/**
 * Whether the server can reach the other side's device at the moment. Media may go on without it.
 */
export type PeerReach = 'lost' | 'back';

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
