import type { ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { useFocusOnMount } from './hooks';
import { Icon } from './Icon';

/** A panel above the screen that does not block it: Escape or a press elsewhere closes it, the focus returns. */
export function Panel(props: { title: string; class: string; children: ComponentChildren; onClose(): void }) {
  const panel = useRef<HTMLElement>(null);
  const close = useFocusOnMount<HTMLButtonElement>();
  const onClose = useRef(props.onClose);
  onClose.current = props.onClose;
  useEffect(() => {
    const key = (event: KeyboardEvent) => {
      if (event.key !== 'Escape') return;
      event.stopPropagation();
      onClose.current();
    };
    const press = (event: PointerEvent) => {
      const target = event.target;
      if (!(target instanceof Element) || panel.current?.contains(target)) return;
      // The button that opens it closes it by itself.
      if (target.closest('[aria-expanded="true"]') === null) onClose.current();
    };
    document.addEventListener('keydown', key, true);
    document.addEventListener('pointerdown', press);
    return () => {
      document.removeEventListener('keydown', key, true);
      document.removeEventListener('pointerdown', press);
    };
  }, []);
  return (
    <section ref={panel} class={`panel ${props.class}`} role="dialog" aria-label={props.title}>
      <div class="panel-head">
        <h2>{props.title}</h2>
        <button ref={close} type="button" class="icon-button" aria-label="Close" onClick={props.onClose}>
          <Icon name="close" size={20} />
        </button>
      </div>
      {props.children}
    </section>
  );
}
