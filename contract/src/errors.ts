// Every way in which Stellwerk refuses something. A code has one HTTP status; a reason is specific, stable and has a hint.
import * as z from 'zod';

export const statusOf = {
  'invalid-argument': 400,
  unauthenticated: 401,
  'permission-denied': 403,
  'not-found': 404,
  'method-not-allowed': 405,
  conflict: 409,
  gone: 410,
  'failed-precondition': 412,
  'too-large': 413,
  'unsupported-media-type': 415,
  'resource-exhausted': 429,
  internal: 500,
  'bad-gateway': 502,
  unavailable: 503,
  'deadline-exceeded': 504,
} as const;

export type ErrorCode = keyof typeof statusOf;

/** What a caller can do about each reason. The one place where reasons are declared; `docs/errors.md` lists them. */
export const hints = {
  'request.invalid': 'Correct the fields named in the message; /openapi.json tells what each verb takes.',
  'request.unknown-route': 'Check the address and the method; /openapi.json lists every route.',
  'request.too-large': 'Send less in one request; files go up in parts.',
  'request.media-type': 'Send JSON as application/json and files as application/octet-stream.',
  'request.too-many': 'Wait for the time given in Retry-After and try again.',
  'request.host': 'Reach the server by an address it was started for, or start it with --public-url.',
  'server.stopping': 'The server is shutting down; try again when it is back.',
  'server.disk-full':
    'Make room on the disk that holds the data folder; then everything goes on by itself, and nothing acknowledged is lost.',
  'server.damaged':
    'Run `stellwerk verify --data <folder>` on the server: it names all that is missing, and what to do.',
  'server.internal': 'This is a fault of ours; the incident id finds it in the server log.',
  'access.sign-in-needed': 'Sign in with `stellwerk login`, or set STELLWERK_TOKEN.',
  'access.token-invalid': 'Sign in again: the token is unknown, revoked or expired.',
  'access.password-wrong': 'Check the user name and the password.',
  'access.sign-in-link-used': 'A sign-in link is good once and for a limited time; ask an administrator for a new one.',
  'access.denied': 'Ask an Owner of the workspace for a role that allows this.',
  'access.administrator-needed': 'Ask the server administrator.',
  'access.run-token-scope': "A run's token reaches its own run and descendants only; use a user's token.",
  'access.last-administrator': 'Make another user administrator first.',
  'access.last-owner': 'Make another user Owner first.',
  'access.user-name-taken': 'Choose another user name.',
  'access.user-not-found': 'List the users with `stellwerk user list`.',
  'access.token-not-found': 'List your tokens with `stellwerk token list`.',
  'workspace.not-found': 'List the workspaces you may see with `stellwerk workspace list`.',
  'workspace.in-use': 'Cancel what is running in the workspace and delete its web services first.',
  'workspace.name-taken': 'Choose another name, or get the existing workspace.',
  'activity.not-found': 'List activities with `stellwerk activity list`.',
  'activity.ended': 'Only an activity that has not ended can be canceled.',
  'settings.invalid': 'Correct the setting named in the message.',
  'secret.not-found': 'List the secrets with `stellwerk secret list`.',
  'secret.too-many': 'Delete secrets that nothing names any more.',
  'server.master-key': 'Start the server with the new key, and the old one as STELLWERK_MASTER_KEY_PREVIOUS.',
  'compute.not-found': 'List compute targets with `stellwerk compute list`.',
  'compute.name-taken': 'Choose another name, or detach the existing compute target.',
  'compute.host-isolation':
    'Attach the host with another Unix user that can read neither the data folder nor other runs: `--user <name>`.',
  'compute.unusable': 'Probe the compute target to see what is missing.',
  'compute.not-yours': 'The local computer belongs to its user; submit to a shared compute target instead.',
  'compute.in-use': 'Wait for what uses it, or give `force`, which cancels its runs.',
  'compute.not-ready': 'Wait until its activity has ended: `stellwerk activity wait`.',
  'compute.not-created': 'What was attached is detached: `stellwerk compute detach`.',
  'compute.created': 'What was created here is deleted: `stellwerk compute delete`.',
  'experiment.not-found': 'List experiments with `stellwerk experiment list`.',
  'experiment.archived': 'Bring it back first: `stellwerk experiment reactivate`, or use another experiment.',
  'experiment.in-trash':
    'Restore it: `stellwerk trash list` tells the entry, `stellwerk trash restore <entry>` brings it back.',
  'run.not-found': 'List runs with `stellwerk run list`.',
  'run.in-trash':
    'Restore it: `stellwerk trash list` tells the entry, `stellwerk trash restore <entry>` brings it back.',
  'run.not-ended': 'Cancel it first, or wait until it has ended.',
  'run.id-taken': 'Choose another run id, or leave it out.',
  'run.move-refused': 'Look at the state of the run: this move is not possible from there.',
  'run.attempt-superseded': 'A newer attempt of this run has taken over; this one must stop.',
  'run.property-set': 'Properties are set once; use a tag for values that change.',
  'run.not-submitted': 'Submit a script instead; what a notebook or script logs by itself has no snapshot to do again.',
  'run.argument-unknown': 'Set one of the arguments named in the message, or submit the script anew.',
  'run.configuration-invalid': 'Correct the run configuration as the message says.',
  'run.journal-gap': 'Send the journal from the offset given in the answer.',
  'run.journal-invalid': 'A journal line must be one of the entries that the contract lists.',
  'run.log-offset': 'Append at the offset given in the answer.',
  'run.not-open': 'Look at the output and the metrics instead, or wait until the script runs.',
  'run.session-not-found': 'Open another session.',
  'run.parent-invalid': 'The parent must be a run of the same workspace and not a descendant.',
  'run.metric-not-found': 'List the metrics of the run with `stellwerk metric list`.',
  'run.file-not-found': 'List the files of the run with `stellwerk run list-files`.',
  'query.invalid': 'Correct the query at the place named in the message.',
  'query.too-costly':
    'Narrow it down: to an experiment, a time, a state, or a tag or metric that few runs have; or order by another field.',
  'page.token-invalid': 'Take page tokens from the answer before, with the same query.',
  'snapshot.not-found': 'Create the snapshot first; submitting a directory does that.',
  'snapshot.too-large': 'Leave files out with .amlignore or .gitignore, or raise the limit.',
  'snapshot.incomplete': 'Upload the files that are reported missing first.',
  'snapshot.file-not-found': 'List the files with `stellwerk snapshot list-files`.',
  'path.invalid':
    'Use a relative path with forward slashes, without `..`, empty parts, backslashes, NUL characters or drive letters.',
  'archive.invalid': 'Make the archive again; it holds something that must not be unpacked.',
  'blob.not-found': 'Upload the content first.',
  'blob.offset': 'Go on from the number of received bytes given in the answer.',
  'blob.digest-mismatch': 'The bytes that arrived are not those announced; upload again.',
  'datastore.not-found': 'List datastores with `stellwerk datastore list`.',
  'datastore.file-not-found': 'List files with `stellwerk datastore list-files`.',
  'datastore.path-taken': 'Give `overwrite`, or choose another path.',
  'environment.invalid': 'Correct the environment specification as the message says.',
  'environment.unresolvable': 'Relax or correct the requirements named in the message.',
  'environment.python-missing': 'Install that Python, name one that is there, or set `pythonFallback`.',
  'environment.tool-missing': 'Install Python 3.8 or newer with venv and pip (Debian: python3-venv).',
  'model.not-found': 'List models with `stellwerk model list`.',
  'model.in-trash':
    'Restore it: `stellwerk trash list` tells the entry, `stellwerk trash restore <entry>` brings it back.',
  'model.in-use': 'Delete the images named in the message first.',
  'model.source-missing': 'Register from files that exist: list the outputs of the run.',
  'model.file-not-found': 'List the files with `stellwerk model get`.',
  'model.property-set': 'Properties are set once; use a tag for values that change.',
  'model.alias-not-found': 'List the aliases with `stellwerk model get`.',
  'image.not-found': 'List images with `stellwerk image list`.',
  'image.not-ready': 'Wait until the image has been built; its activity tells how far it is.',
  'image.in-use': 'Delete the web services named in the message first.',
  'image.base-unavailable':
    'Give a base image that can be read: a registry reference, an OCI layout, a docker-save archive or a root filesystem tar.',
  'image.base-invalid': 'Give another base image; this one cannot be used as the message says.',
  'trash.not-found': 'List what can be restored with `stellwerk trash list`.',
  'trash.blocked': 'Restore what the message names first.',
  'collection.not-found': 'List the collections with `stellwerk server list-collections`.',
  'web-service.not-found': 'List web services with `stellwerk service list`.',
  'web-service.name-taken': 'Choose another name, or update the existing web service.',
  'web-service.key-needed':
    'Send one of the keys as `Authorization: Bearer <key>`; `stellwerk service get-keys` shows them.',
  'web-service.body-too-large': 'Send less in one request.',
  'web-service.no-replica': 'Try again in a moment; `stellwerk service get` tells the state of each replica.',
  'web-service.overloaded': 'Try again after the time given in Retry-After, or scale the web service.',
  'web-service.replica-lost':
    'The request may or may not have been processed; `stellwerk service get-log` tells what happened.',
  'web-service.timeout': 'Send less in one request, or raise the time limit of the web service.',
  'web-service.not-ready':
    'Look at the log of the web service, correct the scoring script or the image, and deploy again.',
  'web-service.busy': 'Wait for the activity that is changing the web service.',
  'target.failed': 'The world outside refused; the message says what, and whether trying again helps.',
} as const satisfies Record<string, string>;

export type ErrorReason = keyof typeof hints;

export const errorBody = z
  .object({
    code: z.enum(Object.keys(statusOf) as [ErrorCode, ...ErrorCode[]]),
    reason: z.string().describe('Stable and specific, such as `model.in-use`.'),
    message: z.string().describe('A full sentence that names the thing.'),
    hint: z.string().describe('What to do about it.'),
    details: z
      .record(z.string(), z.unknown())
      .optional()
      .describe('Facts for programs, such as the offset to go on from.'),
    incident: z.string().optional().describe('Finds an internal fault in the server log.'),
  })
  .meta({ id: 'Error' });
export type ErrorBody = z.infer<typeof errorBody>;

/** The caller asked for something impossible. */
export class ServiceError extends Error {
  readonly code: ErrorCode;
  readonly reason: ErrorReason;
  readonly details: Record<string, unknown> | undefined;
  constructor(code: ErrorCode, reason: ErrorReason, message: string, details?: Record<string, unknown>) {
    super(message);
    this.name = 'ServiceError';
    this.code = code;
    this.reason = reason;
    this.details = details;
  }
  get hint(): string {
    return hints[this.reason];
  }
  get status(): number {
    return statusOf[this.code];
  }
}

/** The world outside refused or broke. `retry` says whether the same call can succeed. */
export class TargetError extends Error {
  readonly retry: 'now' | 'later' | 'never';
  constructor(retry: 'now' | 'later' | 'never', message: string) {
    super(message);
    this.name = 'TargetError';
    this.retry = retry;
  }
}
