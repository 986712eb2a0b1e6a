// A full disk of the server: nobody's fault, and over as soon as there is room. What was not written is refused, and tried again.
import { ServiceError } from '@stellwerk/contract/errors.ts';

/** SQLITE_FULL, and what it says where a file that it maps into memory cannot grow. */
const sqliteCodes = new Set([13, 4874]);

export function isDiskFull(error: unknown): boolean {
  if (error instanceof ServiceError) return error.reason === 'server.disk-full';
  const { code, errcode } = (error ?? {}) as { code?: unknown; errcode?: unknown };
  return code === 'ENOSPC' || code === 'EDQUOT' || (typeof errcode === 'number' && sqliteCodes.has(errcode));
}

export function diskFull(): ServiceError {
  return new ServiceError('unavailable', 'server.disk-full', "The server's disk is full: nothing of this was written.");
}
