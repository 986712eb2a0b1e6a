// Wrong usage, and how any failure is told: what went wrong, what to do, and the exit code.
import { Unreachable } from '@stellwerk/client/failures.ts';
import { ServiceError, TargetError } from '@stellwerk/contract/errors.ts';
import pc from 'picocolors';
import { plain } from './show/plain.ts';

/** The command was called wrongly: exit code 2. */
export class UsageError extends Error {
  readonly hint: string;
  constructor(message: string, hint = 'Add --help to the command to see what it takes.') {
    super(message);
    this.name = 'UsageError';
    this.hint = hint;
  }
}

/** Something went wrong that is no fault of ours nor of the server's answer: exit code 1. */
export class CommandFailed extends Error {
  readonly hint: string | undefined;
  constructor(message: string, hint?: string) {
    super(message);
    this.name = 'CommandFailed';
    this.hint = hint;
  }
}

interface Told {
  message: string;
  hint?: string | undefined;
  reason?: string;
  code: number;
}

function told(error: unknown): Told {
  if (error instanceof UsageError) return { message: error.message, hint: error.hint, code: 2 };
  if (error instanceof CommandFailed) return { message: error.message, hint: error.hint, code: 1 };
  if (error instanceof ServiceError) {
    const incident = error.details?.incident;
    const message = incident === undefined ? error.message : `${error.message} (incident ${String(incident)})`;
    return { message: message + pointed(error), hint: error.hint, reason: error.reason, code: 1 };
  }
  if (error instanceof Unreachable) return { message: error.message, hint: error.hint, code: 1 };
  if (error instanceof TargetError) return { message: error.message, code: 1 };
  if (isSystemError(error)) return { message: systemMessage(error), code: 1 };
  return { message: error instanceof Error ? (error.stack ?? error.message) : String(error), code: 1 };
}

/** The query as it was written, with a caret below the character that is wrong; of a long one what is around it. */
function pointed({ reason, details }: ServiceError): string {
  const { query, at } = details ?? {};
  if (reason !== 'query.invalid' || typeof query !== 'string' || typeof at !== 'number') return '';
  const begin = Math.max(query.lastIndexOf('\n', at - 1) + 1, at - 60);
  const [line] = query.slice(begin, at + 60).split('\n') as [string];
  // Characters that a terminal shows otherwise must not move the caret.
  const shown = [...line].map((character) => (/\p{C}/u.test(character) ? '?' : character)).join('');
  return `\n  ${shown}\n  ${' '.repeat([...line.slice(0, at - begin)].length)}^`;
}

export function tellFailure(error: unknown, asJson: boolean): number {
  const { message, hint, reason, code } = told(error);
  if (asJson) process.stderr.write(`${JSON.stringify({ error: { message, hint, reason } })}\n`);
  else {
    process.stderr.write(`${pc.red('Error:')} ${plain(message, { lines: true })}\n`);
    if (hint) process.stderr.write(`${pc.dim('Hint:')}  ${plain(hint, { lines: true })}\n`);
  }
  return code;
}

function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).syscall === 'string';
}

const words: Record<string, string> = {
  ENOENT: 'does not exist',
  EACCES: 'may not be accessed by this user',
  EISDIR: 'is a folder',
  ENOTDIR: 'is not a folder',
  EEXIST: 'exists already',
  ENOSPC: 'could not be written: the disk is full',
  EROFS: 'could not be written: the file system is read-only',
};

function systemMessage(error: NodeJS.ErrnoException): string {
  const word = error.code ? words[error.code] : undefined;
  return word && error.path ? `${error.path} ${word}.` : error.message;
}
