// `stellwerk completion bash|zsh|fish`: a script for the shell, made from the commands as they are.
import { Argument, Command } from 'commander';
import { buildProgram } from '../program.ts';

interface Entry {
  words: string[];
  summary: string;
  flags: { name: string; summary: string }[];
}

export function completionCommand(): Command {
  const command = new Command('completion').addArgument(new Argument('<shell>').choices(['bash', 'zsh', 'fish']));
  return command.action(async (shell: 'bash' | 'zsh' | 'fish') => {
    const entries = entriesOf(await buildProgram(undefined));
    process.stdout.write({ bash, zsh, fish }[shell](entries));
  });
}

function entriesOf(command: Command, words: string[] = []): Entry[] {
  const flags = command.options
    .filter((option) => option.long && !option.hidden)
    .map((option) => ({ name: option.long!, summary: option.description }));
  const own = { words, summary: command.description(), flags };
  return [own, ...command.commands.flatMap((below) => entriesOf(below, [...words, below.name()]))];
}

const below = (entries: Entry[], { words }: Entry) =>
  entries.filter(
    (entry) => entry.words.length === words.length + 1 && words.every((word, at) => word === entry.words[at]),
  );

const quoted = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;

function bash(entries: Entry[]): string {
  const cases = entries.map((entry) => {
    const words = [...below(entries, entry).map(({ words }) => words.at(-1)!), ...entry.flags.map(({ name }) => name)];
    return `    ${quoted(entry.words.join(' '))}) words=${quoted(words.join(' '))} ;;`;
  });
  return `# Load it with: source <(stellwerk completion bash)
_stellwerk() {
  local current="\${COMP_WORDS[COMP_CWORD]}" called='' words='' at
  for ((at = 1; at < COMP_CWORD && at < 3; at++)); do
    [[ "\${COMP_WORDS[at]}" == -* ]] && break
    called="\${called:+$called }\${COMP_WORDS[at]}"
  done
  case "$called" in
${cases.join('\n')}
    *) words='' ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ \${#COMPREPLY[@]} -eq 0 && "$current" != -* ]] && COMPREPLY=($(compgen -f -- "$current"))
}
complete -F _stellwerk stellwerk
`;
}

function zsh(entries: Entry[]): string {
  const described = ({ name, summary }: { name: string; summary: string }) =>
    quoted(`${name}:${summary.replaceAll(':', ' ').slice(0, 80)}`);
  const cases = entries.map((entry) => {
    const commands = below(entries, entry).map(({ words, summary }) => described({ name: words.at(-1)!, summary }));
    return `    ${quoted(entry.words.join(' '))}) items=(${[...commands, ...entry.flags.map(described)].join(' ')}) ;;`;
  });
  return `#compdef stellwerk
# Load it with: source <(stellwerk completion zsh)
_stellwerk() {
  local called='' at
  local -a items
  for ((at = 2; at < CURRENT && at < 4; at++)); do
    [[ "\${words[at]}" == -* ]] && break
    called="\${called:+$called }\${words[at]}"
  done
  case "$called" in
${cases.join('\n')}
  esac
  _describe 'stellwerk' items || _files
}
compdef _stellwerk stellwerk
`;
}

function fish(entries: Entry[]): string {
  const lines = entries.flatMap((entry) => {
    const condition =
      entry.words.length === 0 ? '__fish_use_subcommand' : `__stellwerk_called ${entry.words.join(' ')}`;
    const commands = below(entries, entry).map(
      ({ words, summary }) =>
        `complete -c stellwerk -f -n ${quoted(condition)} -a ${words.at(-1)} -d ${quoted(summary.slice(0, 80))}`,
    );
    const flags = entry.flags.map(
      ({ name, summary }) =>
        `complete -c stellwerk -n ${quoted(condition)} -l ${quoted(name.slice(2))} -d ${quoted(summary.slice(0, 80))}`,
    );
    return [...commands, ...flags];
  });
  return `# Load it with: stellwerk completion fish | source
function __stellwerk_called
  set -l typed (commandline -opc)
  set -e typed[1]
  test (count $typed) -ge (count $argv); or return 1
  test "$typed[1..$(count $argv)]" = "$argv"
end
${lines.join('\n')}
`;
}
