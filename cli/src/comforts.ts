// The commands made by hand, each loaded when it is called: what is a row of calls for the service is one thing to do for its user.
import type { Comfort } from './program.ts';

const transfers = () => import('./commands/transfers.ts');
const signingIn = () => import('./commands/login.ts');
const selecting = () => import('./commands/selections.ts');
const workspaceUse = () => import('./commands/workspace-use.ts');

export const comforts: readonly Comfort[] = [
  {
    name: 'up',
    summary: 'Starts the server.',
    build: async (session) => (await import('./commands/up.ts')).upCommand(session),
  },
  {
    name: 'backup',
    summary: 'Saves everything that the server keeps to a file, while it serves, and reads it back.',
    build: async (session) => (await import('./commands/backup.ts')).backupCommand(session),
  },
  {
    name: 'restore',
    summary: 'Makes an installation of a backup, in an empty folder.',
    build: async (session) => (await import('./commands/backup.ts')).restoreCommand(session),
  },
  {
    name: 'verify',
    summary: 'Looks whether an installation, or a backup, is whole.',
    build: async (session) => (await import('./commands/backup.ts')).verifyCommand(session),
  },
  {
    name: 'login',
    summary: 'Signs in to a server, and keeps it for this user.',
    build: async (session) => (await signingIn()).loginCommand(session),
  },
  {
    name: 'logout',
    summary: 'Signs out, and forgets the server.',
    build: async (session) => (await signingIn()).logoutCommand(session),
  },
  {
    name: 'init',
    summary: 'Chooses the workspace that the work in this folder belongs to.',
    build: async (session) => (await workspaceUse()).initCommand(session),
  },
  {
    name: 'workspace use',
    summary: 'Chooses the workspace that the work in this folder belongs to.',
    build: async (session) => (await workspaceUse()).useCommand(session),
  },
  {
    name: 'activity wait',
    summary: 'Waits until an activity has ended.',
    build: async (session) => (await import('./commands/activity-wait.ts')).waitCommand(session),
  },
  {
    name: 'run exec',
    summary: 'Starts a program beside the script of a running run.',
    build: async (session) => (await import('./commands/run-exec.ts')).execCommand(session),
  },
  {
    name: 'run forward',
    summary: 'Leads a port of this machine to one of the machine that a running run is on.',
    build: async (session) => (await import('./commands/run-exec.ts')).forwardCommand(session),
  },
  {
    name: 'run submit',
    summary: 'Submits a script with its folder; a run on `local` is started on this machine.',
    build: async (session) => (await import('./commands/run-submit.ts')).submitCommand(session),
  },
  {
    name: 'run resubmit',
    summary: 'Does a run again: its snapshot, lock and inputs; a run on `local` is started on this machine.',
    build: async (session) => (await import('./commands/run-resubmit.ts')).resubmitCommand(session),
  },
  {
    name: 'run logs',
    summary: 'Shows what the script printed; with --follow live.',
    build: async (session) => (await import('./commands/run-logs.ts')).logsCommand(session),
  },
  {
    name: 'run download',
    summary: 'Downloads files of a run.',
    build: async (session) => (await transfers()).runDownloadCommand(session),
  },
  {
    name: 'run sync',
    summary: 'Sends runs that were logged without a server.',
    build: async (session) => (await import('./commands/run-sync.ts')).syncCommand(session),
  },
  {
    name: 'run archive-many',
    summary: 'Archives the runs that a query selects, after it has told how many they are.',
    build: async (session) => (await selecting()).selectionCommand(session, 'archiveMany'),
  },
  {
    name: 'run delete-many',
    summary: 'Deletes the runs that a query selects, after it has told how many they are and what they hold.',
    build: async (session) => (await selecting()).selectionCommand(session, 'deleteMany'),
  },
  {
    name: 'trash empty',
    summary: 'Deletes for good what lies in the trash, after it has told what that is.',
    build: async (session) => (await selecting()).emptyCommand(session),
  },
  {
    name: 'secret set',
    summary: 'Keeps a secret of the workspace; its value is asked for, or comes from a file or standard input.',
    build: async (session) => (await import('./commands/secret-set.ts')).setSecretCommand(session),
  },
  {
    name: 'snapshot download',
    summary: 'Downloads a snapshot as a ZIP archive.',
    build: async (session) => (await transfers()).snapshotDownloadCommand(session),
  },
  {
    name: 'datastore upload',
    summary: 'Uploads a file or folder to a datastore.',
    build: async (session) => (await transfers()).datastoreUploadCommand(session),
  },
  {
    name: 'datastore download',
    summary: 'Downloads a file or folder of a datastore.',
    build: async (session) => (await transfers()).datastoreDownloadCommand(session),
  },
  {
    name: 'model register',
    summary: 'Registers a model, from this machine or from a run.',
    build: async (session) => (await import('./commands/model-register.ts')).registerCommand(session),
  },
  {
    name: 'model download',
    summary: 'Downloads a model.',
    build: async (session) => (await transfers()).modelDownloadCommand(session),
  },
  {
    name: 'image create',
    summary: 'Builds an image from a folder with a scoring script, models and dependencies.',
    build: async (session) => (await import('./commands/image-create.ts')).createCommand(session),
  },
  {
    name: 'image export',
    summary: 'Downloads an image as an archive.',
    build: async (session) => (await transfers()).imageExportCommand(session),
  },
  {
    name: 'service run',
    summary: 'Scores data with a web service.',
    build: async (session) => (await import('./commands/service-run.ts')).serviceRunCommand(session),
  },
  {
    name: 'registry trust',
    summary: 'Prints the lines with which a container engine trusts and reaches the registry of this server.',
    build: async (session) => (await import('./commands/registry-trust.ts')).trustCommand(session),
  },
  {
    name: 'server collect-garbage',
    summary: 'Frees the disk of what nothing refers to any more, and tells what was freed.',
    build: async (session) => (await import('./commands/collect-garbage.ts')).collectCommand(session),
  },
  {
    name: 'completion',
    summary: 'Prints what the shell needs to complete commands and flags.',
    build: async () => (await import('./commands/completion.ts')).completionCommand(),
  },
];
