import { render } from 'preact';
import { App } from './app';
import { Root } from './ui/Root';
import './ui/styles/tokens.css';
import './ui/styles/base.css';
import './ui/styles/home.css';
import './ui/styles/call.css';
import './ui/styles/room.css';
import './ui/styles/panels.css';

const mount = document.getElementById('app');
if (mount !== null) render(<Root app={new App()} />, mount);
