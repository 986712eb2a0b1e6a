// The one file that the gateway obeys: which services there are, where their replicas listen and who may call them.
// The server writes it whole and renames it into place; the gateway reads it whenever it changes.
import * as z from 'zod';

const address = z.union([
  z.strictObject({ socketPath: z.string() }),
  z.strictObject({ host: z.string(), port: z.int().min(1).max(65_535) }),
]);

export const serviceRoute = z.strictObject({
  workspace: z.string(),
  service: z.string(),
  /** Replicas are known by their id: one that stays in the list keeps its connections and counters. */
  replicas: z.array(z.strictObject({ id: z.string(), address })),
  authentication: z.enum(['key', 'none']),
  /** SHA-256 of each key that is good, in hexadecimal. */
  keyHashes: z.array(z.string().regex(/^[0-9a-f]{64}$/)),
  limits: z.strictObject({
    bodyBytes: z
      .int()
      .min(0)
      .default(64 * 1024 * 1024),
    /** From asking a replica to the end of its answer. */
    timeoutMs: z.int().min(1).default(60_000),
    /** Requests of this service at the same time, over all replicas. */
    inFlight: z.int().min(1).default(1_000),
  }),
});
export type ServiceRoute = z.infer<typeof serviceRoute>;
export type ReplicaAddress = z.infer<typeof address>;

export const routes = z.strictObject({
  format: z.literal(1),
  /** Counts up with each writing; the gateway's status tells which one it follows. */
  generation: z.int().min(0),
  services: z.array(serviceRoute),
});
export type Routes = z.infer<typeof routes>;

/** How the gateway itself is started: written beside the routes, read once. */
export const gatewaySettings = z.strictObject({
  host: z.string(),
  /** 0: any free one; the status tells which. */
  port: z.int().min(0).max(65_535),
  tls: z.strictObject({ certificateFile: z.string(), keyFile: z.string() }).optional(),
  /** What it answers to; to any name if absent. */
  hosts: z.strictObject({ names: z.array(z.string()), everyAddress: z.boolean() }).optional(),
  accessLog: z.boolean().default(false),
  /** How long a request may take to arrive, and how often it is looked who took longer; else as the front has it. */
  slow: z
    .strictObject({ headersMs: z.int().min(1), requestMs: z.int().min(1), lookEveryMs: z.int().min(1) })
    .optional(),
  version: z.string(),
});
export type GatewaySettings = z.infer<typeof gatewaySettings>;

export const files = {
  routes: 'routes.json',
  settings: 'gateway.json',
  control: 'control.sock',
  log: 'gateway.log',
  accessLog: 'access.log',
} as const;

/** What the control socket answers to `GET /status`. */
export interface GatewayStatus {
  pid: number;
  version: string;
  /** What it really listens on. */
  host: string;
  port: number;
  generation: number;
  /** Why the newest routes file is not followed. */
  routesError?: string;
  services: ServiceStatus[];
  /** Replicas that are in no route any more but still have requests; those not listed here or below may be stopped. */
  draining: { id: string; inFlight: number }[];
}

export interface ServiceStatus {
  workspace: string;
  service: string;
  /** Since the gateway started. `failures` are answers of 500 and above. */
  requests: number;
  failures: number;
  /** Of the last five to ten minutes; absent if nothing was asked. */
  p50Ms?: number;
  p95Ms?: number;
  inFlight: number;
  replicas: { id: string; ready: boolean; reason?: string; inFlight: number }[];
}
