// What a compute target that hosts web services can do: run copies of an image, the replicas, and nothing more. Which replicas
// there should be, when they are replaced and who may call them is decided by `deployment/web-service`.
// Handles are plain JSON and everything that is kept of a replica; every call works after the server was restarted.

export interface Replica {
  /** Unique for ever. Starting the same id twice finds the first. Letters, digits, `.`, `_` and `-`. */
  id: string;
  /** The unpacked image. */
  rootPath: string;
  /** The image's command and its whole environment; the target adds what says where to listen. */
  command: readonly string[];
  env: Readonly<Record<string, string>>;
  workdir?: string;
  /** `none` cuts the replica off from every network; it can still be scored. */
  network?: 'host' | 'none';
  limits?: { memoryBytes?: number; openFiles?: number; tmpBytes?: number };
}

/** Where a replica is reached. */
export type ReplicaAddress = { socketPath: string } | { host: string; port: number };

export type ReplicaState =
  | { state: 'running' }
  /** `exitCode` is null if it was killed, or ended with the machine. */
  | { state: 'ended'; exitCode: number | null };

export interface LogPart {
  text: string;
  /** Where this part begins: later than asked for if that much of the log was given up. */
  offset: number;
  /** Ask for this next. Offsets count bytes from the replica's start. */
  nextOffset: number;
}

export interface HostsServices<Handle extends { id: string; address: ReplicaAddress }> {
  /** Returns when the replica runs, not when it is ready: that is seen at its address, `GET /ready`. */
  start(replica: Replica): Promise<Handle>;
  look(handle: Handle): Promise<ReplicaState>;
  /** Asks it to end, gives it `graceMs` for the requests in flight, then kills all it started. Safe twice. */
  stop(handle: Handle, graceMs: number): Promise<void>;
  /** What it printed, from an offset. Works after its end, until `cleanUp`. */
  logs(handle: Handle, offset: number): Promise<LogPart>;
  /** Removes what it left, processes included; by its id alone if its start was interrupted. Safe twice. */
  cleanUp(handle: Handle | { id: string }): Promise<void>;
}
