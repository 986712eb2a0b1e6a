// Looking in on a running script: a program beside it, or a connection to a port of its machine. A session is what is open between the two.
import * as z from 'zod';
import { resourceName, runId } from './values.ts';
import { nothing, verb } from './verb.ts';

const ofRun = { workspace: resourceName, run: runId };
const ofSession = { ...ofRun, session: z.string().regex(/^[\w-]{1,64}$/) };
const base = '/workspaces/{workspace}/runs/{run}';

export const session = z
  .object({ session: z.string().describe('Good for whoever opened it, until it has ended.') })
  .meta({ id: 'Session' });

export const sessionVerbs = {
  sessions: {
    exec: verb({
      summary:
        'Starts a program beside the script of a running run: in its working directory, with its environment, as its user. Not on every kind of target. Ends with the run, or when nobody receives what it prints for a minute.',
      method: 'POST',
      path: `${base}/exec`,
      permission: 'contribute',
      input: z.object({
        ...ofRun,
        command: z.array(z.string().max(32_000)).min(1).max(1_000).describe('The program and its arguments.'),
      }),
      output: session,
    }),
    connect: verb({
      summary: 'Connects to a port of the machine that a running run is on. Not on every kind of target.',
      method: 'POST',
      path: `${base}/connect`,
      permission: 'contribute',
      input: z.object({ ...ofRun, port: z.int().min(1).max(65_535) }),
      output: session,
    }),
    receive: verb({
      summary:
        'What comes from a session, until it has ended; once. Of `exec` in frames: 1 output, 2 errors, 3 the end (the exit code as text); each one byte, a length of four bytes, and so many bytes.',
      method: 'GET',
      path: `${base}/sessions/{session}`,
      permission: 'contribute',
      transport: 'download',
      input: z.object(ofSession),
      output: z.string(),
    }),
    send: verb({
      summary: 'Sends bytes into a session, after those that were sent before; with `end` nothing more will come.',
      method: 'POST',
      path: `${base}/sessions/{session}`,
      permission: 'contribute',
      transport: 'upload',
      input: z.object({ ...ofSession, end: z.boolean().optional() }),
      output: nothing,
    }),
  },
};
