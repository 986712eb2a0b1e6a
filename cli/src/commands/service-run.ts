// `stellwerk service run <service> --data …`: scores with a web service, with its key.
import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import { CommandFailed } from '../failures.ts';
import { printLog } from '../print.ts';
import { scoreWith } from '../scoring.ts';
import type { Session } from '../session.ts';

export function serviceRunCommand(sessionOf: (command: Command) => Session): Command {
  const command = new Command('run')
    .argument('<service>', 'The web service.')
    .addOption(
      new Option('--data <data>', 'What to score: text, @file, or @- for standard input.').makeOptionMandatory(),
    )
    .addOption(new Option('--key <key>', 'A key of the service; asked from the server unless given.'))
    .addOption(new Option('--content-type <type>', 'Of the data.').default('application/json'));
  return command.action(async (service: string) => {
    const session = sessionOf(command);
    const { data, key, contentType } = command.opts<{ data: string; key?: string; contentType: string }>();
    const body = data.startsWith('@') ? readFileSync(data === '@-' ? 0 : data.slice(1), 'utf8') : data;
    const score = await scoreWith(session, service, key);
    const answer = await score(body, contentType);
    if (answer.status >= 400)
      throw new CommandFailed(
        `The service answered ${answer.status}: ${answer.text.slice(0, 2_000)}`,
        `Its log: stellwerk service get-log ${service}`,
      );
    printLog(answer.text.endsWith('\n') ? answer.text : `${answer.text}\n`);
  });
}
