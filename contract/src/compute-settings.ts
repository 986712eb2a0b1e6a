// The settings of each kind of compute target, one record a kind: validation, flags of the command line, forms and docs come from here.
// What is secret is not in them: they name secrets of the workspace's vault.
import * as z from 'zod';
import { gpu } from './resources.ts';
import { secretName } from './values.ts';

const gpus = z
  .array(gpu)
  .max(64)
  .optional()
  .describe('The GPUs that runs may be given; those that its driver tells of unless given.');
const concurrency = z
  .int()
  .min(1)
  .max(10_000)
  .optional()
  .describe('Runs at the same time; the number of CPUs unless given.');

export const computeSettings = z
  .discriminatedUnion('kind', [
    z
      .strictObject({ kind: z.literal('local') })
      .describe('The machine of whoever submits.')
      .meta({ id: 'LocalSettings' }),
    z
      .strictObject({
        kind: z.literal('host'),
        user: z
          .string()
          .regex(/^[a-z_][a-z0-9_-]{0,31}$/)
          .optional()
          .describe(
            'The Unix user that runs are executed as; needed when the server can be reached from other machines.',
          ),
        maxConcurrentRuns: concurrency,
        gpus,
      })
      .describe('The machine that the server runs on.')
      .meta({ id: 'HostSettings' }),
    z
      .strictObject({
        kind: z.literal('ssh'),
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
        key: secretName.optional().describe('The secret that holds the private key to sign in with.'),
        passphrase: secretName.optional().describe('The secret that holds the passphrase of the key.'),
        password: secretName.optional().describe('The secret that holds the password to sign in with.'),
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
        maxConcurrentRuns: concurrency,
        gpus,
      })
      .refine(({ key, password }) => key !== undefined || password !== undefined, {
        error: 'A key or a password is needed to sign in.',
        path: ['key'],
      })
      .describe('A Linux machine that is reached by SSH.')
      .meta({ id: 'SshSettings', anyOf: [{ required: ['key'] }, { required: ['password'] }] }),
  ])
  .meta({ id: 'ComputeSettings' });
export type ComputeSettings = z.infer<typeof computeSettings>;
export type ComputeKind = ComputeSettings['kind'];
export type SettingsOf<K extends ComputeKind> = Extract<ComputeSettings, { kind: K }>;
export const computeKind = z.enum(
  computeSettings.options.map(({ shape }) => shape.kind.value) as [ComputeKind, ...ComputeKind[]],
);
