// The command of any verb, made from the contract alone: flags, the call, and the answer shown.
import { createReadStream, createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Client } from '@stellwerk/client/client.ts';
import type { Activity } from '@stellwerk/contract/activity.ts';
import type { ComputeTarget } from '@stellwerk/contract/compute.ts';
import type { Verb } from '@stellwerk/contract/verb.ts';
import type { WebService } from '@stellwerk/contract/web-service.ts';
import { Command, Option } from 'commander';
import type { z } from 'zod';
import { UsageError } from './failures.ts';
import { type Flag, flagsOf, inputFrom, type Schema, schemaOf, typedValue } from './flags.ts';
import { kebab, type Positional, positionalsOf, splitReference } from './names.ts';
import { printAnswer, printEvent, printLog } from './print.ts';
import type { Session } from './session.ts';

type Input = Record<string, unknown>;
type Call = (input: Input, ...more: unknown[]) => unknown;

export interface DerivedVerb {
  noun: string;
  verb: string;
  declaration: Verb;
}

export function derivedCommand(derived: DerivedVerb, sessionOf: (command: Command) => Session): Command {
  const { declaration, verb } = derived;
  const name = `${derived.noun}.${verb}`;
  const fields = schemaOf(declaration.input);
  const positionals = positionalsOf(name, declaration);
  const withoutFlag = new Set([
    'workspace',
    ...positionals.filter((one) => !hasFlag(one, declaration)).map((p) => p.field),
  ]);
  const flags = flagsOf(fields, withoutFlag);
  const command = new Command(kebab(verb)).description(declaration.summary);
  for (const { field, optional } of positionals)
    command.argument(optional ? `[${kebab(field)}]` : `<${kebab(field)}>`, fields[field]?.description);
  for (const { option } of flags) command.addOption(option);
  addTransportOptions(command, declaration);
  if (waitsFor.has(name)) command.addOption(new Option('--no-wait', 'Do not wait until it is done.'));
  command.action(async (...parts: unknown[]) => {
    const session = sessionOf(command);
    const typed = command.opts();
    const given = parts.slice(0, positionals.length) as (string | undefined)[];
    const input = {
      ...(await inputFrom(flags, typed)),
      ...(given[0] !== undefined && positionals[0]?.field === 'workspace'
        ? {}
        : workspaceInput(derived, fields, session)),
      ...positionalInput(positionals, given, fields),
    };
    check(declaration, input, withoutFlag, flags);
    await perform(derived, input, session, typed);
  });
  return command;
}

/** What answers at once with an activity that goes on: the command waits for it. */
const waitsFor = new Set([
  'services.deploy',
  'services.update',
  'services.scale',
  'compute.attach',
  'compute.create',
  'compute.scale',
  'compute.detach',
  'compute.delete',
]);

const hasFlag = (positional: Positional, declaration: Verb) =>
  positional.optional && !declaration.path.includes(`{${positional.field}}`);

function addTransportOptions(command: Command, declaration: Verb): void {
  if (declaration.transport === 'upload')
    command.addOption(new Option('--file <path>', 'The file to send; `-` for standard input.').makeOptionMandatory());
  if (declaration.transport === 'download')
    command.addOption(new Option('--output <path>', 'Where to write it; standard output unless given.'));
  if (isPaged(declaration)) command.addOption(new Option('--all', 'All pages, one after another.'));
}

const isPaged = (declaration: Verb) => 'pageSize' in declaration.input.shape;

function positionalInput(positionals: Positional[], given: (string | undefined)[], fields: Record<string, Schema>) {
  const input: Input = {};
  positionals.forEach(({ field }, at) => {
    const text = given[at];
    if (text !== undefined) input[field] = typedValue(text, fields[field] ?? {}, `<${kebab(field)}>`);
  });
  const takesVersion = positionals.some(({ field, optional }) => field === 'version' && optional);
  if (!takesVersion || fields.version?.type === 'integer' || typeof input.name !== 'string') return input;
  return { ...input, ...splitReference(input.name, input.version as string | undefined) };
}

/** Where the workspace is in the address it must be known; elsewhere (a token for one workspace) it is given only if typed. */
function workspaceInput({ noun, declaration }: DerivedVerb, fields: Record<string, Schema>, session: Session): Input {
  if (!('workspace' in fields) || (noun === 'workspaces' && !declaration.path.includes('{workspace}'))) return {};
  if (declaration.path.includes('{workspace}')) return { workspace: session.workspace };
  return session.options.workspace === undefined ? {} : { workspace: session.options.workspace };
}

/** The contract's own check, told in the words of the command line. */
function check(declaration: Verb, input: Input, withoutFlag: ReadonlySet<string>, flags: readonly Flag[]): void {
  const outcome = (declaration.input as z.ZodObject).safeParse(input);
  if (outcome.success) return;
  const told = outcome.error.issues.slice(0, 5).map((issue) => {
    const path = issue.path.map(String).join('.');
    const isMissing = valueAt(input, issue.path) === undefined;
    const flag = withoutFlag.has(path) ? `<${kebab(path)}>` : (flagFor(flags, issue.path) ?? path);
    if (path === '') return issue.message;
    return isMissing ? `${flag} is missing` : `${flag}: ${issue.message}`;
  });
  throw new UsageError(`${told.join('; ')}.`);
}

const valueAt = (input: unknown, path: readonly PropertyKey[]) =>
  path.reduce((value: unknown, part) => (value as Record<PropertyKey, unknown> | undefined)?.[part], input);

/** The flag of the field, or of what it is part of. */
function flagFor(flags: readonly Flag[], path: readonly PropertyKey[]): string | undefined {
  const fits = (flag: Flag) => flag.path.every((part, at) => part === path[at]);
  return flags.filter(fits).sort((a, b) => b.path.length - a.path.length)[0]?.name;
}

async function perform(derived: DerivedVerb, input: Input, session: Session, typed: Input): Promise<void> {
  const client = (await session.client()) as Client as unknown as Record<string, Record<string, Call>>;
  const call = client[derived.noun]![derived.verb]!;
  const name = `${derived.noun}.${derived.verb}`;
  switch (derived.declaration.transport) {
    case 'json': {
      const columns = input.columns as string[] | undefined;
      if (typed.all === true) return printAnswer(await everyPage(call, input), name, session, columns);
      const answer = await call(input);
      if (waitsFor.has(name) && typed.wait === true) return await printSettled(answer as Changing, name, session);
      return await printAnswer(answer, name, session, columns);
    }
    case 'upload':
      return printAnswer(await call(input, await bodyOf(String(typed.file))), name, session);
    case 'download':
      return receive((await call(input)) as Response, typed.output as string | undefined);
    case 'events':
      for await (const event of call(input) as AsyncIterable<unknown>) printEvent(event, session);
  }
}

/** A web service or a compute target that is being changed, or the activity that takes one away. */
type Changing = Activity | Pick<WebService | ComputeTarget, 'name' | 'activity'>;

async function printSettled(answer: Changing, name: string, session: Session): Promise<void> {
  const { awaitActivity } = await import('./await-activity.ts');
  if ('subject' in answer) return printAnswer(await awaitActivity(answer.id, session), name, session);
  if (answer.activity) await awaitActivity(answer.activity, session);
  const { services, compute } = await session.client();
  const { workspace } = session;
  const now = name.startsWith('services.')
    ? services.get({ workspace, service: answer.name })
    : compute.get({ workspace, target: answer.name });
  await printAnswer(await now, name, session);
}

async function everyPage(call: Call, input: Input): Promise<{ items: unknown[] }> {
  const items: unknown[] = [];
  let page: string | undefined;
  do {
    const answer = (await call({ ...input, ...(page === undefined ? {} : { page }) })) as {
      items: unknown[];
      nextPage?: string;
    };
    items.push(...answer.items);
    page = answer.nextPage;
  } while (page !== undefined);
  return { items };
}

async function bodyOf(path: string): Promise<unknown> {
  const { readFile } = await import('node:fs/promises');
  if (path === '-')
    return new Uint8Array(await new Response(Readable.toWeb(process.stdin) as ReadableStream).arrayBuffer());
  const { size } = await (await import('node:fs/promises')).stat(path);
  const small = size <= 64 * 1024 * 1024;
  return small ? new Uint8Array(await readFile(path)) : Readable.toWeb(createReadStream(path));
}

async function receive(response: Response, output: string | undefined): Promise<void> {
  const body = Readable.fromWeb((response.body ?? new Blob([]).stream()) as Parameters<typeof Readable.fromWeb>[0]);
  if (output !== undefined && output !== '-') return pipeline(body, createWriteStream(output));
  const type = response.headers.get('content-type') ?? '';
  if (process.stdout.isTTY && !type.startsWith('text/') && !type.includes('json'))
    throw new UsageError(
      'This is not text; it is not written to a terminal.',
      'Give --output <path>, or send it to another program.',
    );
  if (!process.stdout.isTTY) return pipeline(body, process.stdout, { end: false });
  for await (const chunk of body.setEncoding('utf8')) printLog(chunk as string);
}
