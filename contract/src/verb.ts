// How a verb is declared. One table of verbs (`verbs.ts`) types the server, the SDKs and the CLI and gives the API page.
import * as z from 'zod';

/**
 * Who may call a verb: `public` anyone; `signed-in` any user; `administrator` the server's administrators;
 * `read`, `contribute`, `own` whoever has a role in `{workspace}` that includes this.
 */
export type Permission = 'public' | 'signed-in' | 'administrator' | 'read' | 'contribute' | 'own';

/**
 * What a run's token may do with a verb. `run`: `{run}` must be its run or a descendant; `child`: may create runs below its own;
 * `upload`: bring bytes for its outputs; `snapshot`: `{snapshot}` must be its run's; `datastore`: reads what the data references of its run name and
 * writes where they upload; `model`: registers from its run or a descendant. Absent: nothing.
 */
export type RunTokenScope = 'run' | 'child' | 'upload' | 'snapshot' | 'datastore' | 'model';

/** `json`: both ways JSON. `upload`: the body is raw bytes. `download`: the answer is raw bytes. `events`: a server-sent event stream of the output type. */
export type Transport = 'json' | 'upload' | 'download' | 'events';

export interface Verb<
  I extends z.ZodObject = z.ZodObject,
  O extends z.ZodType = z.ZodType,
  T extends Transport = Transport,
> {
  summary: string;
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** `{field}` parts are taken from the input's fields of that name; what is left goes into the query (GET, DELETE, streams) or the JSON body. */
  path: string;
  permission: Permission;
  runToken?: RunTokenScope;
  transport: T;
  /** The largest JSON body, where it is not `limits.jsonBodyBytes`. */
  bodyBytes?: number;
  input: I;
  output: O;
}

export function verb<I extends z.ZodObject, O extends z.ZodType, const T extends Transport = 'json'>(
  declaration: Omit<Verb<I, O, T>, 'transport'> & { transport?: T },
): Verb<I, O, T> {
  return { transport: 'json' as T, ...declaration };
}

/** The answer of a verb that only does something. */
export const nothing = z.object({}).meta({ id: 'Nothing' });

/** The input fields that stand in the path. */
export function pathFields(path: string): string[] {
  return [...path.matchAll(/\{(\w+)\}/g)].map((match) => match[1]!);
}

/** Whether what is not in the path travels in the query instead of a JSON body. */
export function usesQuery(verb: Verb): boolean {
  return verb.method === 'GET' || verb.method === 'DELETE' || verb.transport !== 'json';
}

export function pageOf<T extends z.ZodType>(item: T, id: string) {
  return z
    .object({
      items: z.array(item),
      nextPage: z.string().optional().describe('Give it as `page` to go on; absent on the last page.'),
    })
    .meta({ id });
}
