// How a machine is reached and signed in to by SSH, for every kind that does.
import * as z from 'zod';
import { secretName } from '../values.ts';

export const sshAddress = {
  address: z
    .string()
    .max(253)
    .regex(/^[A-Za-z0-9_]([A-Za-z0-9._:-]*[A-Za-z0-9])?$/)
    .describe('Its name in the network, or its IP address.'),
  port: z.int().min(1).max(65_535).default(22),
  user: z
    .string()
    .regex(/^[A-Za-z_][A-Za-z0-9_.-]{0,63}$/)
    .describe('The Unix user that runs are executed as there.'),
  hostKey: z
    .string()
    .regex(/^(ssh-[a-z0-9-]+|ecdsa-sha2-[a-z0-9-]+) [A-Za-z0-9+/]+={0,2}$|^SHA256:[A-Za-z0-9+/]{43}=?$/)
    .optional()
    .describe(
      'The host key by which the machine is known, as `ssh-keygen -y` or known_hosts have it, or its fingerprint (SHA256:…). Without it the machine is not attached; the refusal tells the key that it shows.',
    ),
};

export const sshSignIn = {
  key: secretName.optional().describe('The secret that holds the private key to sign in with.'),
  passphrase: secretName.optional().describe('The secret that holds the passphrase of the key.'),
  password: secretName.optional().describe('The secret that holds the password to sign in with.'),
};

/** For `refine`: one of both has to be there. */
export const hasSignIn = ({ key, password }: { key?: string | undefined; password?: string | undefined }) =>
  key !== undefined || password !== undefined;
export const lacksSignIn = { error: 'A key or a password is needed to sign in.', path: ['key'] };
/** The same, as JSON Schema says it. */
export const signInNeeded = { anyOf: [{ required: ['key'] }, { required: ['password'] }] };

/** Where runs lie over there, and what executes them. */
export const sshPlace = {
  folder: z
    .string()
    .max(64)
    .regex(/^(~\/|\/)?[A-Za-z0-9._][A-Za-z0-9._/-]*$/)
    .default('.stellwerk')
    .describe('Where runs lie there; below the home of the user unless it begins with a slash.'),
  python: z
    .string()
    .max(200)
    .regex(/^[A-Za-z0-9._/-]+$/)
    .default('python3')
    .describe('The Python, 3.8 or newer, that executes the runner there.'),
};
